"""Cross-entropy of the output projection, some rows at a time: the logits never exist whole.

With a vocabulary of 128k the logits of 4,096 tokens and their gradient would take 4 GB; here a
few hundred rows of them exist at any time. The gradients of both factors are made on the way, so
that backward multiplies nothing again (as in Liger, Hsu et al. 2024).

Shapes: N positions, C n_embd, V vocab_size, R rows at a time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
ROW_BYTES = {"cpu": 16_000_000, "cuda": 1_000_000_000}  # of logits in fp32 at a time
LEAST_ROWS = 256  # fewer make the matrix products slow


class ChunkedCrossEntropy(torch.autograd.Function):
    """Cross-entropy and z penalty, sums over the positions in nats.

    The first carries the gradient of both.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "n c"],
        weight: Float[Tensor, "v c"],
        targets: Int[Tensor, " n"],
        z_loss: float,
        softcap: float,
        with_grad: bool,
    ) -> tuple[Tensor, Tensor]:
        matrix = weight.to(x.dtype)
        nll, penalty = torch.zeros(2, device=x.device).unbind()
        dx = torch.empty_like(x) if with_grad else None
        dweight = torch.zeros_like(weight) if with_grad else None
        n_rows = rows_at_a_time(x.device.type, weight.shape[0])
        for first in range(0, x.shape[0], n_rows):
            rows = slice(first, first + n_rows)
            logits = x[rows] @ matrix.t()  # (R, V)
            if softcap:
                logits = softcap * torch.tanh(logits / softcap)
            losses, penalties, dlogits = _losses(logits, targets[rows], z_loss, softcap)
            nll, penalty = nll + losses, penalty + penalties
            if dx is not None and dweight is not None:
                dx[rows] = dlogits @ matrix
                dweight += dlogits.t() @ x[rows]
        ctx.save_for_backward(dx, dweight)
        ctx.mark_non_differentiable(penalty)
        return nll, penalty

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        dx, dweight = ctx.saved_tensors
        scale = grad_outputs[0]  # of a sum: the same for all rows
        return dx * scale.to(dx.dtype), dweight * scale, None, None, None, None


def chunked_cross_entropy(
    x: Float[Tensor, "n c"],
    weight: Float[Tensor, "v c"],
    targets: Int[Tensor, " n"],
    *,
    z_loss: float,
    softcap: float,
) -> dict[str, Tensor]:
    """Summed cross-entropy of x weight^T in nats: `loss`, and `penalty` with `z_loss`.

    Their sum carries the gradient. z_loss weighs log² of the softmax's denominator
    (Chowdhery et al. 2022, section 5).
    """
    nll, penalty = ChunkedCrossEntropy.apply(
        x, weight, targets, z_loss, softcap, torch.is_grad_enabled()
    )
    return {"loss": nll, "penalty": penalty} if z_loss else {"loss": nll}


def remade_cross_entropy(
    project: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n c"],
    targets: Int[Tensor, " n"],
    *,
    z_loss: float,
    vocab_size: int,
) -> dict[str, Tensor]:
    """The same of logits that only `project` can make, from x: backward makes some rows' again.

    Tensor-parallel ones, whose weight no process has whole.
    """

    def some(x: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return whole_cross_entropy(project(x), targets, z_loss=z_loss)

    parts = _remade(some, x, targets, vocab_size)
    return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}


def remade_logps(
    project: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n c"],
    targets: Int[Tensor, " n"],
    *,
    vocab_size: int,
) -> Float[Tensor, " n"]:
    """Log-probability of each target in nats, by the logits that `project` makes from x.

    Only backward knows how much each weighs: it makes some rows' logits again.
    """

    def some(x: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(project(x).float(), targets, reduction="none")

    return torch.cat(_remade(some, x, targets, vocab_size))


def whole_cross_entropy(
    logits: Float[Tensor, "n v"], targets: Int[Tensor, " n"], *, z_loss: float
) -> dict[str, Tensor]:
    """The same of logits that exist whole."""
    logits = logits.float()
    loss = {"loss": F.cross_entropy(logits, targets, reduction="sum")}
    if z_loss:
        loss["penalty"] = z_loss * logits.logsumexp(-1).square().sum()
    return loss


def rows_at_a_time(device: str, vocab_size: int) -> int:
    """Rows of logits that may exist at once, on a device of type cpu or cuda."""
    return max(LEAST_ROWS, ROW_BYTES[device] // (4 * vocab_size))


def _remade(
    some: Callable[[Tensor, Tensor], T],
    x: Float[Tensor, "n c"],
    targets: Int[Tensor, " n"],
    vocab_size: int,
) -> list[T]:
    """What `some` makes of some rows at a time, and again in backward where that is not all rows."""
    n_rows = rows_at_a_time(x.device.type, vocab_size)
    if x.shape[0] <= n_rows:
        return [some(x, targets)]
    return [
        checkpoint(some, *rows, use_reentrant=False, preserve_rng_state=False)
        for rows in zip(x.split(n_rows), targets.split(n_rows), strict=True)
    ]


def _losses(
    logits: Float[Tensor, "r v"], targets: Int[Tensor, " r"], z_loss: float, softcap: float
) -> tuple[Tensor, Tensor, Float[Tensor, "r v"]]:
    """Summed cross-entropy and z penalty of some rows, and the gradient by x weight^T.

    In bf16 the probabilities are rounded to it, which is less than the rounding of the logits
    that they come from; a probability under 1e-38 counts as that.
    """
    dtype = torch.bfloat16 if logits.dtype == torch.bfloat16 else torch.float32
    probs = logits.softmax(-1, dtype=dtype)  # summed in fp32
    index = targets[:, None]
    p_target = probs.gather(-1, index).float()
    nll = -p_target.clamp_min(torch.finfo(torch.float32).tiny).log()  # (R, 1)
    if z_loss:
        log_z = nll + logits.gather(-1, index).float()  # (R, 1)
        penalty = z_loss * log_z.square().sum()
        grad = probs * (1 + 2 * z_loss * log_z).to(dtype)
    else:
        penalty, grad = nll.new_zeros(()), probs
    if torch.compiler.is_compiling():  # one loop with the rest, where scattering copies all of it
        grad = grad - (torch.arange(grad.shape[-1], device=grad.device) == index).to(dtype)
    else:
        grad.scatter_add_(-1, index, -torch.ones_like(index, dtype=dtype))
    if softcap:  # derivative of c tanh(s / c)
        grad = grad * (1 - (logits / softcap).square()).to(dtype)
    return nll.sum(), penalty, grad.to(logits.dtype)
