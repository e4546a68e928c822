"""Documents of a token stream packed into blocks. Shapes: B sequences, T block_size.

A document longer than a block is cut into whole blocks and a rest; no other is cut. Every
token is an input once, and its target is what follows it in the stream, as it is when the
stream is cut every T tokens: the document's end predicts the next one's start marker.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from llm.data.batch import Batch
from llm.data.packing import best_fit
from llm.data.shards import TokenShards

SPAN = 2**24  # ids that are looked at together


class PackedBlocks:
    """Blocks of whole documents where that is possible, padded where nothing fits."""

    def __init__(
        self,
        shards: TokenShards,
        block_size: int,
        *,
        document_start: int,
        window: int,
        document_mask: bool,
    ) -> None:
        """`window` neighbouring documents are packed together.

        With `document_mask` batches have `positions`, which count from 0 in each document.
        """
        self.shards, self.block_size = shards, block_size
        self.document_start, self.document_mask = document_start, document_mask
        bounds = document_bounds(shards, document_start)
        self._starts, self._sizes, self._rows = pack_documents(bounds, block_size, window)

    def __len__(self) -> int:
        return len(self._rows) - 1

    @property
    def padding_frac(self) -> float:
        """Share of all blocks' places that hold no token."""
        return 1 - int(self._sizes.sum()) / (len(self) * self.block_size)

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Inputs `ids`, `targets` and `loss_mask` (B, T), which is True where a token is.

        What is padded counts as a document of its own.
        """
        shape = (len(indices), self.block_size)
        ids, targets = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        positions, filled = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        for row, block in enumerate(indices):
            place = 0
            for start, size in self._pieces(int(block)):
                piece = self._read(start, size)
                span = slice(place, place + size)
                ids[row, span], targets[row, span] = piece[:-1], piece[1:]
                positions[row, span], filled[row, span] = np.arange(size), True
                place += size
            positions[row, place:] = np.arange(self.block_size - place)
        arrays = {"ids": ids, "targets": targets, "loss_mask": filled}
        if self.document_mask:
            arrays["positions"] = positions
        count = int(filled.sum())
        inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(inputs, units=count, tokens=count)

    def _pieces(self, block: int) -> list[tuple[int, int]]:
        span = slice(self._rows[block], self._rows[block + 1])
        return list(zip(self._starts[span].tolist(), self._sizes[span].tolist(), strict=True))

    def _read(self, start: int, size: int) -> np.ndarray:
        """The piece's ids and the one that follows; after the stream's end another document would."""
        ids = self.shards[start : start + size + 1]
        return ids if len(ids) > size else np.append(ids, self.document_start)


class Packed(NamedTuple):
    """Where in the stream each piece of a document begins, how long it is, and which block has it."""

    starts: np.ndarray
    sizes: np.ndarray
    rows: np.ndarray  # block i holds pieces rows[i] to rows[i + 1]


def pack_documents(bounds: np.ndarray, block_size: int, window: int) -> Packed:
    """The documents between the bounds in blocks, `window` neighbours together."""
    starts, sizes, rows = [], [], [0]
    for first in range(0, len(bounds) - 1, window):
        begin, size = cut_documents(bounds[first : first + window + 1], block_size)
        for row in best_fit(size, block_size):
            starts.append(begin[row])
            sizes.append(size[row])
            rows.append(rows[-1] + len(row))
    return Packed(np.concatenate(starts), np.concatenate(sizes), np.array(rows))


def document_bounds(shards: TokenShards, document_start: int) -> np.ndarray:
    """Where each document of the stream begins, and the stream's end."""
    found = [np.zeros(1, np.int64)]
    for first in range(0, len(shards), SPAN):
        span = shards[first : first + SPAN]
        found.append(first + np.flatnonzero(span == document_start))
    return np.unique(np.concatenate([*found, np.array([len(shards)])]))


def cut_documents(bounds: np.ndarray, block_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of every piece of the documents between the bounds, none over a block."""
    lengths = np.diff(bounds)
    counts = -(-lengths // block_size)
    owner = np.repeat(np.arange(len(lengths)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = bounds[:-1][owner] + number * block_size
    return starts, np.minimum(block_size, bounds[1:][owner] - starts)
