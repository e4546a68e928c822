"""What differs between one process, DDP, FSDP2 and tensor parallelism: all of it is here.

The model's files know nothing of it: wrappers, hooks and plans are applied from outside.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from llm.config.train import LaunchConfig
from llm.errors import TrainingError
from llm.model.device import pick_device
from llm.train.compile import compile_whole
from llm.train.recompute import recompute

T = TypeVar("T")
LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    `rank` of `size` counts those that read different micro-batches: all processes, but a
    tensor group counts as one.
    """

    rank: int
    size: int
    device: torch.device
    launch: LaunchConfig | None = None
    mesh: DeviceMesh | None = None  # where each process has a part of the model
    writers: dist.ProcessGroup | None = None  # the same processes, for writing beside training

    @property
    def is_first(self) -> bool:
        """The first process alone writes files and metrics."""
        return self.process == 0

    @property
    def process(self) -> int:
        return dist.get_rank() if dist.is_initialized() else self.rank

    @property
    def processes(self) -> int:
        return dist.get_world_size() if dist.is_initialized() else self.size

    @property
    def writes(self) -> bool:
        """Whether this process has something that a checkpoint needs."""
        return self.is_first or self.writers is not None

    @property
    def _has_tensor_groups(self) -> bool:
        return (
            self.launch is not None and self.launch.parallel == "tensor" and self.mesh is not None
        )

    def wrap(self, model: nn.Module, *, compiled: bool) -> nn.Module:
        """The sharded model, with gradients averaged over ranks in backward."""
        if self.mesh is not None:
            if compiled:
                for block in model.get_submodule("backbone.blocks").children():
                    block.compile()
            return model
        if compiled:
            model = compile_whole(model)
        if self.size == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=devices)

    def shard(self, model: nn.Module, *, in_bf16: bool = False) -> None:
        """Leave each process its part of the model, on its device, in place and once.

        `in_bf16`: processes give each other the parts of the blocks in bf16.
        """
        if any(is_dtensor(parameter) for parameter in model.parameters()):
            return
        if self.launch is not None:
            recompute(model, self.launch.recompute)
        if self.mesh is None:
            model.to(self.device)
        elif self._has_tensor_groups:
            model.to(self.device)
            _split_matrices(model, self.mesh["tensor"])
            # of one group too: no optimizer mixes parts
            _fully_shard(model, self.mesh["data"], in_bf16=in_bf16)
        else:
            _fully_shard(model, self.mesh, in_bf16=in_bf16)

    def accumulate(self, model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        """Within it, backward averages gradients only for the last micro-batch of a step.

        Parts of them are shared out after each, which would otherwise stay whole: FSDP then saves
        what it is for, and only copies in other groups wait.
        """
        if isinstance(model, DistributedDataParallel) and not last:
            return model.no_sync()
        if hasattr(model, "set_requires_all_reduce"):
            model.set_requires_all_reduce(last)  # type: ignore[operator]
        return nullcontext()

    def clip(self, parameters: Iterable[nn.Parameter], limit: float) -> float:
        """Scale the gradients down to a global norm of `limit`; returns the norm before."""
        groups = _by_mesh(parameters)
        norm = global_norm([p for group in groups for p in group])
        for group in groups:
            nn.utils.clip_grads_with_norm_(group, limit, norm)
        return norm.item()

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """All of the model's weights, for the first process; every one takes part."""
        if self.mesh is None:
            return model.state_dict()
        found = {}
        for name, value in model.state_dict().items():
            whole_value = whole(value).cpu()
            if self.is_first:
                found[name] = whole_value
        return found

    def sum(self, values: Tensor) -> Tensor:
        """Elementwise sum over ranks; every process gets it."""
        if self.size > 1:
            mesh = self.mesh if self._has_tensor_groups else None
            dist.all_reduce(values, group=mesh and mesh.get_group("data"))
        return values

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        values = torch.tensor(flags, device=self.device).int()
        if self.processes > 1:
            dist.all_reduce(values)
        return (values > 0).tolist()

    def from_first(self, value: T) -> T:
        """The first process's value, in every one."""
        values = [value]
        if self.processes > 1:
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def texts(self, text: str) -> str:
        """What processes have to say, each thing once; every one gets it."""
        found = [text]
        if self.processes > 1:
            found = [""] * self.processes
            dist.all_gather_object(found, text)
        return "; ".join(sorted(set(found) - {""}))

    def snapshot(self, tensors: Mapping[str, Tensor], into: dict[str, Tensor]) -> dict[str, Tensor]:
        """A copy in this process's memory, in the place of a former one where there is one."""
        if not into:
            into = {name: _like_on_cpu(value) for name, value in tensors.items()}
        for name, value in tensors.items():
            local(into[name]).copy_(local(value))
        return into

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.processes > 1:
            dist.barrier()


@contextmanager
def ranks(device: str, launch: LaunchConfig | None = None) -> Iterator[Ranks]:
    """Join the other processes that torchrun started, if any, and leave them at the end.

    Without `launch` each has the whole model. Who has joined already stays. TrainingError when
    another one ends before.
    """
    picked = pick_device(device)
    if picked.type == "cuda":
        torch.cuda.set_device(picked)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(0, 1, picked, launch)
        return
    joined = dist.is_initialized()
    if not joined:
        dist.init_process_group("cpu:gloo,cuda:nccl" if picked.type == "cuda" else "gloo")
    try:
        yield _arranged(launch, picked)
    except RuntimeError as error:
        if not any(words in str(error) for words in LOST):
            raise
        raise TrainingError(
            f"process {dist.get_rank()} has lost the connection to another one"
        ) from error
    finally:
        if not joined:
            dist.destroy_process_group()


def is_dtensor(value: Tensor) -> bool:
    """Whether processes have parts of it; without importing what only they need."""
    return hasattr(value, "placements")


def whole(value: Tensor) -> Tensor:
    """All of a tensor, of which processes may have parts; every one takes part."""
    return value.full_tensor() if is_dtensor(value) else value  # type: ignore[attr-defined]


def local(value: Tensor) -> Tensor:
    """What this process has of it."""
    return value.to_local() if is_dtensor(value) else value  # type: ignore[attr-defined]


def global_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """The L2 norm of the gradients, over all processes that have parts of them."""
    groups = _by_mesh(parameters)
    gradients = [[p.grad for p in group if p.grad is not None] for group in groups]
    norms = [whole(nn.utils.get_total_norm(each)) for each in gradients]
    return norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _by_mesh(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those with a gradient, by the processes that have parts of them: no operator mixes these."""
    groups: dict[DeviceMesh | None, list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            groups.setdefault(getattr(parameter, "device_mesh", None), []).append(parameter)
    return list(groups.values())


def _like_on_cpu(value: Tensor) -> Tensor:
    """Room in the memory of this process for what it has of a tensor."""
    own = local(value)
    room = torch.empty_like(own, device="cpu", pin_memory=own.is_cuda)
    if not is_dtensor(value):
        return room
    from torch.distributed.tensor import DTensor

    assert isinstance(value, DTensor)
    return DTensor(room, value._spec, requires_grad=False)  # from_local would move it to the GPU


def _arranged(launch: LaunchConfig | None, device: torch.device) -> Ranks:
    """This process among the others, by the way they share the model out."""
    process, size = dist.get_rank(), dist.get_world_size()
    if launch is None or launch.parallel == "ddp":
        return Ranks(process, size, device, launch)
    writers = dist.new_group(backend="gloo")
    assert isinstance(writers, dist.ProcessGroup)
    groups = (size // launch.group_ranks, launch.group_ranks)
    if launch.parallel == "tensor":
        # its advice, a flat mesh, is one that FSDP2's parts cannot follow
        logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
        mesh = init_device_mesh(device.type, groups, mesh_dim_names=("data", "tensor"))
        return Ranks(mesh.get_local_rank("data"), groups[0], device, launch, mesh, writers)
    if launch.parallel == "hybrid":
        mesh = init_device_mesh(device.type, groups, mesh_dim_names=("replicate", "shard"))
    else:
        mesh = init_device_mesh(device.type, (size,), mesh_dim_names=("shard",))
    return Ranks(process, size, device, launch, mesh, writers)


def _fully_shard(model: nn.Module, mesh: DeviceMesh, *, in_bf16: bool) -> None:
    """FSDP2: the weights of one block are whole at a time, in forward and in backward.

    Over two dimensions of a mesh each group of the first has a copy. `in_bf16`: whole are bf16 copies
    of the fp32 parts, whose gradients are summed up in fp32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    low = torch.bfloat16 if in_bf16 else None
    policy = MixedPrecisionPolicy(low, torch.float32, cast_forward_inputs=False)
    for block in model.get_submodule("backbone.blocks").children():
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # after a forward without a backward, as in validation, parts are what is left
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def _split_matrices(model: nn.Module, mesh: DeviceMesh) -> None:
    """Heads, hidden features and the vocabulary are shared out (Shoeybi et al. 2019).

    Norms, biases of outputs and the reward's head stay whole in every process, and their
    gradients are the same there; query and key norms, which see some heads, sum theirs up.
    """
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        SequenceParallel,
        parallelize_module,
    )

    plan = {
        "embed": RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate()),
        "head": ColwiseParallel(output_layouts=Replicate()),
        **{name: ColwiseParallel() for name in ("q", "k", "v", "gate", "up")},
        **{name: RowwiseParallel() for name in ("out", "down")},
        **{
            name: SequenceParallel(sequence_dim=1, use_local_output=True)
            for name in ("q_norm", "k_norm")
        },
    }
    outside = ("backbone.positions",)  # learnt positions: few, and looked up whole
    tied = getattr(model, "head", None) is not None and model.config.tie_embeddings  # type: ignore[union-attr]
    for name, module in list(model.named_modules()):
        style = plan.get(name.rpartition(".")[2])
        if style is not None and not name.startswith(outside):
            parallelize_module(module, mesh, style)
    if tied:
        model.head.weight = model.backbone.embed.weight  # type: ignore[union-attr]
