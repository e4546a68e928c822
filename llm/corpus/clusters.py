"""Disjoint sets of documents 0 to n - 1 in a file: 8 bytes a document, and only the pages that
are touched in memory."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BLOCK = 1 << 17  # documents at a time


def allocate(path: Path, size_bytes: int) -> None:
    """Make the file at `path` at least so long, or keep it; OSError now when the disk is too full."""
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size_bytes))


def open_array(path: Path, size: int, dtype: type) -> np.ndarray:
    """A new array of zeros in a file."""
    path.unlink(missing_ok=True)
    allocate(path, size * np.dtype(dtype).itemsize)
    return map_array(path, size, dtype)


def map_array(path: Path, size: int, dtype: type | str) -> np.ndarray:
    """The first values of a file; what is written to them is written to the file."""
    return np.memmap(path, dtype, "r+", shape=(size,)) if size else np.empty(0, dtype)


def blocks(size: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover 0 to size."""
    return ((first, min(first + BLOCK, size)) for first in range(0, size, BLOCK))


class Clusters:
    """Sets that start as one per document; a set's root is its first document."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._parents = open_array(path, size, np.int64)
        self.size = size
        for first, last in blocks(size):
            self._parents[first:last] = np.arange(first, last)

    def join(self, ones: np.ndarray, others: np.ndarray) -> None:
        """Make one set of the sets of each pair; the pairs' order changes nothing."""
        while len(ones):
            ones, others = self.roots(ones), self.roots(others)
            apart = ones != others
            low = np.minimum(ones[apart], others[apart])
            high = np.maximum(ones[apart], others[apart])
            np.minimum.at(self._parents, high, low)
            ones, others = low, high

    def roots(self, documents: np.ndarray) -> np.ndarray:
        """The first document of each one's set."""
        found = self._parents[documents]
        while True:
            above = self._parents[found]
            if np.array_equal(above, found):
                self._parents[documents] = found  # next time at once
                return found
            found = above

    def keepers(self, lengths: np.ndarray | None) -> np.ndarray:
        """Per document, the one that its set keeps: the first, or the longest when lengths are given.

        Of several longest the first.
        """
        kept = open_array(self._path.with_suffix(".kept"), self.size, np.int64)
        for first, last in blocks(self.size):
            kept[first:last] = self.roots(np.arange(first, last))
        if lengths is not None:
            self._choose_longest(kept, lengths)
        return kept

    def _choose_longest(self, roots: np.ndarray, lengths: np.ndarray) -> None:
        """Put the longest, of several the first, in every root's place."""
        longest = open_array(self._path.with_suffix(".lengths"), self.size, np.int64)
        chosen = open_array(self._path.with_suffix(".chosen"), self.size, np.int64)
        chosen[:] = self.size
        for first, last in blocks(self.size):
            np.maximum.at(longest, roots[first:last], lengths[first:last])
        for first, last in blocks(self.size):
            is_longest = lengths[first:last] == longest[roots[first:last]]
            documents = np.flatnonzero(is_longest) + first
            np.minimum.at(chosen, roots[documents], documents)
        for first, last in blocks(self.size):
            roots[first:last] = chosen[roots[first:last]]
