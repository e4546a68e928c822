"""Linear layers that compute in the precision of what they are given.

Shapes: C width in, E width out.
"""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Linear(nn.Linear):
    """x W^T + b in x's dtype: weights are cast where they are used, if they are of another.

    What autocast does (Micikevicius et al. 2018), but the activations between two layers are
    never cast to fp32 and back.
    """

    def forward(self, input: Float[Tensor, "*b c"]) -> Float[Tensor, "*b e"]:
        bias = None if self.bias is None else self.bias.to(input.dtype)
        return F.linear(input, self.weight.to(input.dtype), bias)


def side_by_side(x: Float[Tensor, "*b c"], *layers: nn.Module) -> tuple[Tensor, ...]:
    """What each layer makes of x, by one product with all weights where they are plain ones.

    One large product is faster than several small ones, and so is its gradient. Layers that
    are sharded, of another class (float8) or have hooks, and inference, where joining the
    weights would cost more than it saves, call each by itself.
    """
    plain = [layer for layer in layers if _is_plain(layer)]
    if not torch.is_grad_enabled() or len(plain) < len(layers):
        return tuple(layer(x) for layer in layers)
    weight = torch.cat([layer.weight for layer in plain]).to(x.dtype)  # (sum of E, C)
    biases: list[Tensor] = [layer.bias for layer in plain if layer.bias is not None]
    bias = torch.cat(biases).to(x.dtype) if biases else None
    return F.linear(x, weight, bias).split([layer.out_features for layer in plain], dim=-1)


def is_sharded(weight: Tensor) -> bool:
    """Whether it is a DTensor, whose module alone takes half a second to import."""
    return hasattr(weight, "device_mesh")


def _is_plain(layer: nn.Module) -> TypeGuard[Linear]:
    hooks = layer._forward_hooks or layer._forward_pre_hooks
    return type(layer) is Linear and not hooks and not is_sharded(layer.weight)
