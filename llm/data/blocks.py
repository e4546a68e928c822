"""Blocks of a token stream as next-token batches. Shapes: B sequences, T block_size."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from llm.data.batch import Batch
from llm.data.order import shuffled
from llm.data.shards import TokenShards
from llm.errors import ConfigError, DataError


class Blocks:
    """The stream cut into blocks of T targets; block i holds ids i*T to i*T+T and one more."""

    def __init__(
        self, shards: TokenShards, block_size: int, document_start: int | None = None
    ) -> None:
        """With `document_start`, the id that begins a document, batches have `positions`.

        DataError when the stream is shorter than one block.
        """
        self.shards, self.block_size = shards, block_size
        self.document_start = document_start
        if len(self) < 1:
            raise DataError(
                f"the split has {len(shards)} tokens, fewer than model.block_size={block_size} + 1; "
                "gather more text, raise tokenize.val_frac or shorten the block"
            )

    def __len__(self) -> int:
        return (len(self.shards) - 1) // self.block_size

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Inputs `ids` (B, T) and `targets` (B, T), each target the next id.

        `positions` (B, T), where there are any, count from 0 in each document of a block.
        """
        size = self.block_size
        rows = np.stack([self.shards[i * size : i * size + size + 1] for i in indices])
        ids = torch.from_numpy(rows.astype(np.int64))  # (B, T + 1)
        inputs = {"ids": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous()}
        if self.document_start is not None:
            inputs["positions"] = document_positions(inputs["ids"], self.document_start)
        return Batch(inputs, units=inputs["ids"].numel(), tokens=inputs["ids"].numel())


def document_positions(ids: Int[Tensor, "b t"], document_start: int) -> Int[Tensor, "b t"]:
    """Distance from the last `document_start`, or from the row's begin where there is none yet."""
    index = torch.arange(ids.shape[1]).expand_as(ids)
    starts = torch.where(ids == document_start, index, 0)  # (B, T)
    return index - starts.cummax(1).values


class BlockSource(Protocol):
    """Blocks by number, each of `block_size` tokens at most."""

    block_size: int

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch: ...


class TrainingBlocks:
    """Shuffled blocks by step, another order every epoch. A `Batches`."""

    def __init__(
        self,
        blocks: BlockSource,
        micro_batch_size: int,
        batch_tokens: int,
        max_tokens: int,
        seed: int,
    ) -> None:
        """ConfigError when `batch_tokens` is no multiple of a micro-batch."""
        micro_tokens = micro_batch_size * blocks.block_size
        if batch_tokens % micro_tokens:
            raise ConfigError(
                f"pretrain.batch_tokens={batch_tokens} is not a multiple of {micro_tokens} "
                f"({micro_batch_size} sequences x {blocks.block_size} tokens)"
            )
        self.blocks, self.micro_batch_size, self.seed = blocks, micro_batch_size, seed
        self.micros_per_step = batch_tokens // micro_tokens
        self.n_steps = max_tokens // batch_tokens
        self._orders: dict[int, np.ndarray] = {}

    def micro_batch(self, step: int, index: int) -> Batch:
        first = (step * self.micros_per_step + index) * self.micro_batch_size
        return self.blocks.batch([self._block(first + i) for i in range(self.micro_batch_size)])

    def _block(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.blocks))
        if epoch not in self._orders:
            self._orders = {epoch: shuffled(len(self.blocks), epoch, self.seed)}
        return int(self._orders[epoch][offset])


class ValidationBlocks(Sequence[Batch]):
    """Every block once, in order."""

    def __init__(self, blocks: Blocks, micro_batch_size: int) -> None:
        self.blocks, self.micro_batch_size = blocks, micro_batch_size

    def __len__(self) -> int:
        return -(-len(self.blocks) // self.micro_batch_size)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        first = index * self.micro_batch_size
        return self.blocks.batch(range(first, min(first + self.micro_batch_size, len(self.blocks))))
