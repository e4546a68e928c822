"""Items of different lengths as right-padded batches. Shapes: B items, T longest item."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from llm.data.batch import Batch
from llm.data.order import bucketed
from llm.errors import ConfigError

Item = TypeVar("Item")


class PaddedTraining(Generic[Item]):
    """Batches of similar length, another order every epoch. A `Batches`."""

    def __init__(
        self,
        items: Sequence[Item],
        lengths: Sequence[int],
        collate: Callable[[Sequence[Item]], Batch],
        *,
        batch_size: int,
        micro_batch_size: int,
        epochs: int,
        seed: int,
    ) -> None:
        """`batch_size` items per step, over all ranks and micro-batches."""
        if batch_size % micro_batch_size:
            raise ConfigError(
                f"a step of {batch_size} items is not a multiple of micro_batch_size={micro_batch_size}"
            )
        self.items, self.collate, self.seed = items, collate, seed
        self.micro_batch_size = micro_batch_size
        self.micros_per_step = batch_size // micro_batch_size
        lengths_array = np.asarray(lengths)
        epochs_of_batches = [
            bucketed(lengths_array, batch_size, epoch, seed) for epoch in range(epochs)
        ]
        self._batches = [batch for batches in epochs_of_batches for batch in batches]
        self.n_steps = len(self._batches)

    def micro_batch(self, step: int, index: int) -> Batch:
        first = index * self.micro_batch_size
        chosen = self._batches[step][first : first + self.micro_batch_size]
        return self.collate([self.items[i] for i in chosen])


class PaddedValidation(Sequence[Batch], Generic[Item]):
    """Every item once, in order."""

    def __init__(
        self,
        items: Sequence[Item],
        collate: Callable[[Sequence[Item]], Batch],
        micro_batch_size: int,
    ) -> None:
        self.items, self.collate, self.micro_batch_size = items, collate, micro_batch_size

    def __len__(self) -> int:
        return -(-len(self.items) // self.micro_batch_size)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        first = index * self.micro_batch_size
        return self.collate(self.items[first : first + self.micro_batch_size])


def pad(
    rows: Sequence[Sequence[int]], value: int, dtype: torch.dtype = torch.int64, length: int = 0
) -> Tensor:
    """(B, T): rows filled up on the right with `value` to the longest, or to `length` if that is more."""
    longest = max(length, *(len(row) for row in rows))
    padded = torch.full((len(rows), longest), value, dtype=dtype)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=dtype)
    return padded
