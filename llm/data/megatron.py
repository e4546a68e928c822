"""Documents of ids as Megatron-LM's and NeMo's indexed dataset: `NAME.bin` and `NAME.idx`.

The layout is that of megatron/core/datasets/indexed_dataset.py, little-endian. The .bin is
the ids of all sequences. The .idx is the magic, version 1 (uint64), the code of the ids'
type (uint8), the number of sequences and of document bounds (uint64); then the length of
each sequence (int32), the byte at which each begins (int64), and the bounds: the number of
the first sequence of each document, and at last the number of all sequences (int64). Here a
document is a sequence, and ends with the separator, as its `--append-eod` has it.
"""

import struct
from array import array
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

MAGIC = b"MMIDIDX\x00\x00"
HEADER = struct.Struct("<9sQBQQ")
CODES = {np.dtype("<i4"): 4, np.dtype("<u2"): 8}
SMALL_VOCAB = 65_500  # Megatron's own bound of uint16


class MegatronWriter:
    """Writes `path`.bin and `path`.idx; use it in a `with`, which completes the .idx.

    Eight bytes per document are in memory.
    """

    def __init__(self, path: Path, vocab_size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.dtype = np.dtype("<u2" if vocab_size < SMALL_VOCAB else "<i4")
        self._path = path
        self._file = path.with_suffix(".bin").open("wb")
        self._lengths = array("q")

    def write(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        """Append documents of those lengths, whose ids are joined."""
        assert lengths.sum() == len(ids), "every id is a document's"
        self._file.write(ids.astype(self.dtype).tobytes())
        self._lengths.frombytes(lengths.astype(np.int64).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if error is None:
            self._write_index(np.frombuffer(self._lengths, np.int64))

    def _write_index(self, lengths: np.ndarray) -> None:
        count = len(lengths)
        pointers = np.zeros(count, "<i8")
        np.cumsum(lengths[:-1] * self.dtype.itemsize, out=pointers[1:])
        with self._path.with_suffix(".idx").open("wb") as file:
            file.write(HEADER.pack(MAGIC, 1, CODES[self.dtype], count, count + 1))
            file.write(lengths.astype("<i4").tobytes())
            file.write(pointers.tobytes())
            file.write(np.arange(count + 1, dtype="<i8").tobytes())
