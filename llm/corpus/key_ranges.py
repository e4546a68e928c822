"""Keys of documents on disk, grouped per table and key range: what may be equal lies together.

A table is a band of signatures, or any other kind of key. Each shard's keys are one file;
whoever looks for equal ones reads one table's one range from all of them. Ranges are as
many as make one fit into memory, and change no result.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm.files import write_file

ENTRY_BYTES = 64  # of a key, its document, and their sorting

Keys = tuple[np.ndarray, np.ndarray]  # uint64, and the documents (int64) that have them


@dataclass(frozen=True)
class Layout:
    """How the keys are split."""

    tables: int
    ranges: int  # of the keys of each table

    @classmethod
    def fitting(cls, tables: int, keys: int, memory_bytes: int) -> "Layout":
        """With ranges that hold, of a table of so many keys, what fits into the memory."""
        return cls(tables, max(1, math.ceil(keys * ENTRY_BYTES / memory_bytes)))

    def range_of(self, keys: np.ndarray) -> np.ndarray:
        """The range of each key; a later range has larger keys."""
        return ((keys >> np.uint64(32)) * np.uint64(self.ranges)) >> np.uint64(32)

    def write(self, path: Path, tables: Sequence[Keys]) -> None:
        """Write the keys of one shard."""
        keys, documents, counts = [], [], []
        for table_keys, table_documents in tables:
            ranges = self.range_of(table_keys)
            order = np.argsort(ranges, kind="stable") if self.ranges > 1 else slice(None)
            keys.append(table_keys[order])
            documents.append(table_documents[order].astype(np.int64))
            counts.append(np.bincount(ranges.astype(np.int64), minlength=self.ranges))
        with write_file(path) as partial, partial.open("wb") as file:
            for array in (*counts, *keys, *documents):
                file.write(np.ascontiguousarray(array).data)

    def read(self, paths: Iterable[Path], table: int, range_: int) -> Iterator[Keys]:
        """The keys of one range of a table, shard by shard."""
        cell = table * self.ranges + range_
        cells = self.tables * self.ranges
        for path in paths:
            with path.open("rb") as file:
                counts = np.fromfile(file, np.int64, cells)
                first, count, total = counts[:cell].sum(), counts[cell], counts.sum()
                file.seek(8 * (cells + first))
                keys = np.fromfile(file, np.uint64, count)
                file.seek(8 * (cells + total + first))
                yield keys, np.fromfile(file, np.int64, count)


def equal_pairs(shards: Iterable[Keys], most_keys: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of the first document of a key and each other one of the same key.

    At most so many keys are sorted at once, beside one of each that was seen before.
    """
    held: list[Keys] = []
    seen = count = 0
    for shard in shards:
        held.append(shard)
        count += len(shard[0])
        if count - seen > most_keys:
            pairs, first = _reduce(held)
            yield pairs
            held, count = [first], len(first[0])
            seen = count
    if held:
        yield _reduce(held)[0]


def _reduce(held: list[Keys]) -> tuple[tuple[np.ndarray, np.ndarray], Keys]:
    """The pairs, and each key with its first document."""
    keys = np.concatenate([keys for keys, _ in held])
    documents = np.concatenate([documents for _, documents in held])
    if not len(keys):
        return (documents, documents), (keys, documents)
    order = np.argsort(keys)
    keys, documents = keys[order], documents[order]
    begins = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    firsts = np.minimum.reduceat(documents, begins)
    ones = np.repeat(firsts, np.diff(np.append(begins, len(keys))))
    other = documents != ones
    return (ones[other], documents[other]), (keys[begins], firsts)
