"""Columns of a table from Python's and numpy's values, and back, without pandas.

pyarrow's own `array`, `scalar` and `to_numpy` import pandas, where it is installed, to ask whether
what they are given is one of its objects: 0.2 s and 50 MiB of every process of every stage.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa


def text_column(values: Iterable[str | None]) -> pa.Array:
    """Strings, or None, as text; UnicodeEncodeError where one holds a lone surrogate."""
    encoded = [None if value is None else value.encode() for value in values]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(value or b"") for value in encoded], out=offsets[1:])
    known = np.array([value is not None for value in encoded], np.bool_)
    buffers = [
        None if known.all() else _bits(known),
        pa.py_buffer(offsets),
        pa.py_buffer(b"".join(value for value in encoded if value)),
    ]
    return pa.Array.from_buffers(pa.large_string(), len(encoded), buffers).cast(pa.string())


def number_column(values: np.ndarray) -> pa.Array:
    """Numbers, or truth values, as what Arrow calls their type."""
    buffer = (
        _bits(values) if values.dtype == np.bool_ else pa.py_buffer(np.ascontiguousarray(values))
    )
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, buffer])


def as_numpy(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The numbers, or truth values, of a column without nulls; read-only."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks else pa.nulls(0, column.type)
    if column.type == pa.bool_():
        return np.from_dlpack(column.cast(pa.uint8())).view(np.bool_)
    return np.from_dlpack(column)


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table of no rows."""
    return pa.Table.from_batches([], schema)


def _bits(values: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))
