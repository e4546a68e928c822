"""Dropout (Srivastava et al. 2014), and its masks on a CPU.

There torch draws one number after the other for a mask, at seven nanoseconds each: a quarter of
a step. A draw of 64 bits serves four places here, which is all that takes time.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

LEVELS = 1 << 16  # a place has 16 bits, so that the probability is right to 1 in 65,536
PLACES_PER_DRAW = 4


def dropout(x: Float[Tensor, "*b"], p: float, training: bool = True) -> Float[Tensor, "*b"]:
    """Zero where a draw of probability `p` says so, else x / (1 - p); x itself outside of training."""
    on_cpu = x.device.type == "cpu" and not torch.compiler.is_compiling()
    if not on_cpu or not (training and 0 < p < 1):
        return F.dropout(x, p, training)
    return x * keep_mask(x, p).mul_(1 / (1 - p))


def keep_mask(x: Float[Tensor, "*b"], p: float) -> Float[Tensor, "*b"]:
    """For each place of x, on the CPU, 0 with probability `p` and else 1."""
    if torch.compiler.is_compiling():  # which knows no draws of 64 bits
        return (torch.rand(x.shape) >= p).to(x.dtype)
    draws = torch.empty(-(-x.numel() // PLACES_PER_DRAW), dtype=torch.int64).random_(
        -(1 << 63), None
    )
    places = draws.view(torch.int16)[: x.numel()].view(x.shape)
    mask = torch.empty(x.shape, dtype=x.dtype)
    return torch.ge(places, round(p * LEVELS) - LEVELS // 2, out=mask)
