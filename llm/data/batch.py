"""What data hands to the training loop: micro-batches by number."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """One micro-batch. `units` is what the loss is a mean over: counted tokens, or pairs."""

    inputs: dict[str, Tensor]
    units: int
    tokens: int  # that the network reads, for throughput

    def to(self, device: torch.device) -> "Batch":
        moved = {key: value.to(device, non_blocking=True) for key, value in self.inputs.items()}
        return Batch(moved, self.units, self.tokens)

    def pinned(self) -> "Batch":
        """In memory that a GPU copies from while it computes."""
        pinned = {key: value.pin_memory() for key, value in self.inputs.items()}
        return Batch(pinned, self.units, self.tokens)


class Batches(Protocol):
    """Training data as a pure function of the step, so that its position is the step.

    Micro-batch `index` of a step is the same whatever the number of ranks: they share
    the indices out, so that two ranks compute what one would.
    """

    @property
    def n_steps(self) -> int: ...

    @property
    def micros_per_step(self) -> int: ...

    def micro_batch(self, step: int, index: int) -> Batch: ...
