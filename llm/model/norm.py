"""Normalisation of the residual stream. Shapes: N rows, C width."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llm.config.model import ModelConfig
from llm.model.linear import is_sharded


class RMSNorm(nn.Module):
    """x / rms(x) * weight in x's dtype, its mean in fp32 (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        weight = self.weight.to(x.dtype)
        if _is_eager_bf16_on_cpu(x, weight):
            return EagerRMSNorm.apply(x, weight, self.eps)
        return F.rms_norm(x, weight.shape, weight, self.eps)


class EagerRMSNorm(torch.autograd.Function):
    """The same in a third of the time, for bf16 on a CPU, where torch has RMSNorm only in small parts.

    1 / rms(x) is summed in fp32, and rounded to bf16 where it multiplies x. Backward is LayerNorm's
    own, at a mean of 0, less what that has for the mean.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Float[Tensor, "*n c"], weight: Float[Tensor, " c"], eps: float
    ) -> Float[Tensor, "*n c"]:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # (N, 1)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        (dy,) = grad_outputs
        x, weight, scale = ctx.saved_tensors
        rounded = scale.to(dy.dtype)
        dweight = rounded.flatten() @ (dy * x).flatten(0, -2)
        # scale (g - mean(g) - y mean(g y)) for g = dy weight, y = x scale: here without mean(g).
        dx = torch.ops.aten.native_layer_norm_backward(
            dy.contiguous(),
            x,
            weight.shape,
            torch.zeros_like(scale),
            scale,
            weight.float(),
            None,
            [True, False, False],
        )[0]
        mean = (dy @ weight).unsqueeze(-1).div_(x.shape[-1])  # (N, 1)
        return dx.add_(mean.mul_(rounded)), dweight, None


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


def _is_eager_bf16_on_cpu(x: Tensor, weight: Tensor) -> bool:
    """Whether torch would take the long way; a compiler makes one loop of it by itself."""
    plain = x.dtype == torch.bfloat16 and x.device.type == "cpu" and not is_sharded(weight)
    return plain and not torch.compiler.is_compiling()


def build_norm(config: ModelConfig) -> RMSNorm | LayerNorm:
    """The norm of the residual stream that `norm` names."""
    if config.norm == "rmsnorm":
        return RMSNorm(config.n_embd, config.norm_eps)
    return LayerNorm(config.n_embd, config.norm_eps, bias=config.bias)
