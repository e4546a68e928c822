"""What differs between one process and DDP: all of it is here."""

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from llm.model.device import pick_device

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Rank 0 alone writes files and metrics."""
        return self.rank == 0

    @property
    def writes(self) -> bool:
        """Whether this rank has something that a checkpoint needs: every other has the same."""
        return self.is_first

    @property
    def writers(self) -> dist.ProcessGroup | None:
        """The ranks that write a checkpoint together, apart from training; None: the first alone."""
        return None

    @property
    def share(self) -> slice:
        """This rank's part of a list that all ranks have."""
        return slice(self.rank, None, self.size)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over ranks in backward."""
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def accumulate(self, model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Within it, backward exchanges gradients only for the last micro-batch of a step."""
        if isinstance(model, DistributedDataParallel) and not last:
            return model.no_sync()
        return nullcontext()

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over ranks; every rank gets it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set on any rank."""
        return (self.sum(torch.tensor(flags, device=self.device).int()) > 0).tolist()

    def from_first(self, value: T) -> T:
        """The first rank's value, on every rank."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def texts(self, text: str) -> str:
        """What ranks have to say, each thing once; every rank gets it."""
        found = [text]
        if self.size > 1:
            found = [""] * self.size
            dist.all_gather_object(found, text)
        return "; ".join(sorted(set(found) - {""}))

    def snapshot(self, tensors: Mapping[str, Tensor], into: dict[str, Tensor]) -> dict[str, Tensor]:
        """A copy in this process's memory, in the place of a former one where there is one."""
        if not into:
            pin = self.device.type == "cuda"
            into = {
                k: torch.empty_like(v, device="cpu", pin_memory=pin) for k, v in tensors.items()
            }
        for name, value in tensors.items():
            into[name].copy_(value)
        return into

    def wait(self) -> None:
        """Return when every rank has come here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def ranks(device: str) -> Iterator[Ranks]:
    """Join the other ranks that torchrun started, if any, and leave them at the end."""
    picked = pick_device(device)
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1, picked)
        return
    dist.init_process_group("nccl" if picked.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), size, picked)
    finally:
        dist.destroy_process_group()
