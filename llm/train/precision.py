"""Precision of the network's arithmetic; what the optimizer updates and keeps stays fp32."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from llm.errors import ConfigError
from llm.model.backbone import Backbone, is_of_a_block
from llm.model.linear import Linear
from llm.model.recurrent import is_recurrent

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "bf16_weights": torch.bfloat16,
    "fp16": torch.float16,
    "float8": torch.bfloat16,  # of everything but the products in the blocks
}
HOPPER = (9, 0)  # the first compute capability with float8 products


@contextmanager
def computing(model: nn.Module, precision: str) -> Iterator[None]:
    """Within it the model computes in bf16 or fp16, from weights cast where they are used.

    Gradients reach the weights as they are kept, in fp32 (Micikevicius et al. 2018).
    """
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    for backbone in backbones:
        backbone.compute_dtype = DTYPES[precision]
    try:
        yield
    finally:
        for backbone in backbones:
            backbone.compute_dtype = torch.float32


def prepare(model: nn.Module, precision: str, device: torch.device) -> None:
    """Make the model ready for a precision, before it is sharded; what is ready stays as it is.

    ConfigError where the precision cannot be had.
    """
    if precision == "float8":
        use_float8(model, device)
    elif precision == "fp16" and device.type == "cpu" and is_recurrent(model):
        raise ConfigError("precision=fp16: there is no LSTM of it on a CPU; use bf16 or fp32")


def use_float8(model: nn.Module, device: torch.device) -> None:
    """The matrix products of the blocks in float8, each tensor scaled as a whole, by torchao.

    The parameters stay what they are, under their names. ConfigError where it cannot be had.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < HOPPER:
        raise ConfigError(
            f"precision=float8 needs an NVIDIA GPU of compute capability {HOPPER[0]}.{HOPPER[1]} "
            f"(Hopper) or later, and this is {device.type}; use precision=bf16"
        )
    if importlib.util.find_spec("torchao") is None:
        raise ConfigError("precision=float8 needs torchao: pip install torchao; or precision=bf16")
    from torchao.float8 import convert_to_float8_training  # type: ignore[import-not-found]

    convert_to_float8_training(
        model,
        module_filter_fn=lambda layer, name: (
            type(layer) is Linear  # not one that has been converted
            and is_of_a_block(name)
            and all(size % 16 == 0 for size in layer.weight.shape)
        ),
    )


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Dynamic loss scaling, which only fp16 needs: its smallest gradients would become zero."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
