"""Items of different lengths packed into rows of one length, so that little is padded.

Best-fit decreasing, the longest first and each into the fullest row that has room for it,
truncates nothing that fits a row and needs about as many rows as cutting the joined
stream (Ding et al. 2024, "Fewer Truncations Improve Language Modeling", section 3).
"""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np

from llm.data.batch import Batch
from llm.data.order import shuffled
from llm.errors import ConfigError

Item = TypeVar("Item")


def best_fit(lengths: Sequence[int] | np.ndarray, room: int) -> list[list[int]]:
    """Rows of item indices, each row's lengths summing up to `room` at most.

    Every item is in one row. No length may exceed the room.
    """
    sizes = np.asarray(lengths)
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]  # rows by what room they have left
    occupied = 0  # bit r is set where with_room[r] has a row
    for item in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[item])
        fitting = occupied >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1  # the least room that suffices
            row = with_room[left].pop()
            if not with_room[left]:
                occupied &= ~(1 << left)
            rows[row].append(item)
        else:
            left, row = room, len(rows)
            rows.append([item])
        with_room[left - size].append(row)
        occupied |= 1 << (left - size)
    return [sorted(row) for row in rows]


class PackedTraining(Generic[Item]):
    """Rows of several items, packed anew in another order every epoch. A `Batches`."""

    def __init__(
        self,
        items: Sequence[Item],
        lengths: Sequence[int],
        collate: Callable[[Sequence[Sequence[Item]]], Batch],
        *,
        room: int,
        window: int,
        batch_size: int,
        micro_batch_size: int,
        epochs: int,
        seed: int,
    ) -> None:
        """`batch_size` rows per step, over all ranks and micro-batches.

        `window` shuffled items are packed together. A last short step of an epoch is left out;
        with fewer rows than a step there is one step, filled by going round again.
        """
        if batch_size % micro_batch_size:
            raise ConfigError(
                f"a step of {batch_size} rows is not a multiple of micro_batch_size={micro_batch_size}"
            )
        self.items, self.collate = items, collate
        self.micro_batch_size = micro_batch_size
        self.micros_per_step = batch_size // micro_batch_size
        sizes = np.asarray(lengths)
        self._steps: list[list[list[int]]] = []
        for epoch in range(epochs):
            rows = packed_epoch(sizes, room, window, epoch, seed)
            if len(rows) < batch_size:
                rows = [rows[i % len(rows)] for i in range(batch_size)]
            starts = range(0, len(rows) - batch_size + 1, batch_size)
            self._steps += [rows[start : start + batch_size] for start in starts]
        self.n_steps = len(self._steps)

    def micro_batch(self, step: int, index: int) -> Batch:
        first = index * self.micro_batch_size
        rows = self._steps[step][first : first + self.micro_batch_size]
        return self.collate([[self.items[i] for i in row] for row in rows])


def packed_epoch(
    lengths: np.ndarray, room: int, window: int, epoch: int, seed: int
) -> list[list[int]]:
    """Rows of one epoch, in shuffled order; every item is in one of them."""
    order = shuffled(len(lengths), epoch, seed)
    rows = [
        order[start + np.asarray(row)].tolist()
        for start in range(0, len(order), window)
        for row in best_fit(lengths[order[start : start + window]], room)
    ]
    return [rows[i] for i in shuffled(len(rows), epoch, seed + 1)]
