"""Normalisation of the residual stream. Shapes: C width."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llm.config.model import ModelConfig


class RMSNorm(nn.Module):
    """x / rms(x) * weight in x's dtype, its mean in fp32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


class LayerNorm(nn.Module):
    """(x - mean) / std * weight + bias in x's dtype, mean and std in fp32 (Ba et al. 2016)."""

    def __init__(self, width: int, eps: float, *, bias: bool) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.layer_norm(x, self.weight.shape, self.weight.to(x.dtype), bias, self.eps)


def build_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """The norm of the residual stream that `norm` names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, config.norm_eps)
    return LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
