"""What is read off a run besides its loss, and changes nothing of it."""

import re
from collections.abc import Mapping

import torch
from torch import nn

from llm.resident import own_peak_mib
from llm.train.distributed import global_norm

WRAPPERS = re.compile(r"\b(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
MIB, MB = 1 << 20, 1e6


def is_due(interval: int, step: int) -> bool:
    """Whether something happens after step `step`, counted from 1; an interval of 0 is never."""
    return interval > 0 and step % interval == 0


def layer_norms(named: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """The L2 norm of the gradients of each layer: embed, block_00, block_01, …, norm, head.

    A tied head is in embed. On every rank the norms of whole tensors; their squares sum up to
    the square of the global norm.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named.items():
        if parameter.grad is not None:
            layers.setdefault(layer_of(name), []).append(parameter)
    norms = [global_norm(parameters).float() for parameters in layers.values()]
    return dict(zip(layers, torch.stack(norms).tolist(), strict=True))


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to, whatever the model is wrapped in."""
    parts = WRAPPERS.sub("", name).removeprefix("backbone.").split(".")
    return f"block_{int(parts[1]):02d}" if parts[0] == "blocks" else parts[0]


def peak_memory_mb(device: torch.device) -> float:
    """The most this process has held, in 10^6 bytes: of the GPU's memory, or resident on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MB
    return own_peak_mib() * MIB / MB
