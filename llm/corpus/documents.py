"""Documents in parquet shards: the form between the corpus stages.

Every column is text; `meta` is a JSON object with sorted keys. The same rows give the
same bytes.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llm.corpus.columns import as_numpy, empty_table, text_column
from llm.errors import DataError

GATHERED = ("id", "source", "url", "mime", "content", "meta")
EXTRACTED = ("id", "source", "url", "text", "language", "language_score", "meta")

Row = dict[str, str]


def document_id(source: str, url: str) -> str:
    """The id of the document at `url`, 40 hex digits."""
    return hashlib.sha1(f"{source}\n{url}".encode()).hexdigest()


def dump_meta(meta: dict[str, Any]) -> str:
    """`meta` as the column holds it."""
    return json.dumps(meta, ensure_ascii=False, sort_keys=True)


def valid_unicode(text: str) -> str:
    """The text with lone surrogates, which no UTF-8 file can hold, replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def hash_fraction(key: str) -> float:
    """A number in [0, 1) that depends on the key alone: documents below p are a share p."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8]) / 2**64


def text_schema(*columns: str) -> pa.Schema:
    """A schema of text columns."""
    return pa.schema([(column, pa.string()) for column in columns])


def write_table(path: Path, table: pa.Table) -> None:
    """Write one parquet file, into a folder that `files.write_dir` made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd")


def write_rows(path: Path, rows: Iterable[dict[str, Any]], schema: pa.Schema) -> int:
    """Write one parquet file of rows, of text columns; returns their number."""
    table = text_table(list(rows), schema)
    write_table(path, table)
    return table.num_rows


def text_table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows of text columns as a table."""
    return pa.table([text_column(row.get(name) for row in rows) for name in schema.names], schema)


def write_shards(folder: Path, rows: Iterable[Row], columns: tuple[str, ...], size: int) -> int:
    """Write rows in shards that close at `size` bytes of text; returns the number of shards.

    At least one shard is written, so that an empty folder is never mistaken for a missing one.
    """
    schema = text_schema(*columns)
    number, held, held_bytes = 0, [], 0
    for row in rows:
        held.append(row)
        held_bytes += sum(len(value.encode()) for value in row.values())
        if held_bytes >= size:
            write_rows(folder / f"{number:05d}.parquet", held, schema)
            number, held, held_bytes = number + 1, [], 0
    if held or number == 0:
        write_rows(folder / f"{number:05d}.parquet", held, schema)
        number += 1
    return number


def text_bytes(column: pa.ChunkedArray) -> np.ndarray:
    """The UTF-8 length of each value."""
    return as_numpy(pc.call_function("binary_length", [column]))


def write_table_shards(
    folder: Path, tables: Iterable[pa.Table], schema: pa.Schema, size: int
) -> int:
    """As `write_shards`, the same bytes of the same rows, without making a row a Python object."""
    number, held, held_bytes = 0, empty_table(schema), 0
    for table in tables:
        sizes = np.zeros(table.num_rows, np.int64)
        for column in table.columns:
            sizes += text_bytes(column)
        while table.num_rows:
            totals = held_bytes + np.cumsum(sizes)
            full = int(np.searchsorted(totals, size)) + 1  # rows until the shard closes
            held = pa.concat_tables([held, table.slice(0, full)])
            held_bytes = int(totals[min(full, len(totals)) - 1])
            table, sizes = table.slice(full), sizes[full:]
            if held_bytes >= size:
                write_table(folder / f"{number:05d}.parquet", held.combine_chunks())
                number, held, held_bytes = number + 1, empty_table(schema), 0
    if held.num_rows or number == 0:
        write_table(folder / f"{number:05d}.parquet", held.combine_chunks())
        number += 1
    return number


def shard_paths(folder: Path) -> list[Path]:
    """The numbered shards of a folder, in order; DataError when there are none."""
    paths = sorted(folder.glob("[0-9]*.parquet"))
    if not paths:
        raise DataError(f"{folder} holds no document shards; `dvc repro` makes what a stage reads")
    return paths


def read_shard(path: Path, columns: tuple[str, ...] | None = None) -> pa.Table:
    """One shard as a table; DataError when the file is damaged.

    It is read in this thread: Arrow's own take twice the time for a shard, and each keeps memory.
    What Arrow holds of a shard that is done with goes back to the system first.
    """
    pa.default_memory_pool().release_unused()
    with _shard(path) as file:
        return file.read(list(columns) if columns else None, use_threads=False)


def shard_size(path: Path) -> int:
    """How many documents a shard holds; DataError when the file is damaged."""
    with _shard(path) as file:
        return file.metadata.num_rows


@contextmanager
def _shard(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # read_table imports pandas
            yield file
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} is not a readable parquet file: {error}") from None


def read_documents(folder: Path, columns: tuple[str, ...] | None = None) -> Iterator[Row]:
    """The rows of a folder's shards, in order, one shard in memory at a time."""
    for path in shard_paths(folder):
        yield from read_shard(path, columns).to_pylist()


def count_by_source(folder: Path) -> dict[str, int]:
    """Documents of a folder's shards per source, in order of the names."""
    counts: dict[str, int] = {}
    for path in shard_paths(folder):
        for entry in read_shard(path, ("source",))["source"].value_counts().to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return dict(sorted(counts.items()))
