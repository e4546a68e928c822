"""Muon, with all matrices of a shape orthogonalised at once.

Shapes: N matrices, E rows, C columns.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llm.model.linear import is_sharded

TOGETHER = 16_000_000  # numbers in matrices at once; larger matrices gain nothing, and cost memory


class BatchedMuon(torch.optim.Muon):
    """torch's Muon, to the bit on a CPU, by few large products where that has many small ones.

    A block's matrices are too small to keep two cores busy, or a GPU, and every layer has them
    again. Sharded weights go torch's own way.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter once."""
        assert closure is None
        if any(is_sharded(p) for group in self.param_groups for p in group["params"]):
            super().step()
            return
        for group in self.param_groups:
            by_shape = defaultdict[torch.Size, list[Tensor]](list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                together = max(1, TOGETHER // shape.numel())
                for first in range(0, len(parameters), together):
                    self._update(parameters[first : first + together], group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Update parameters of one shape."""
        gradients: list[Tensor] = []
        momenta: list[Tensor] = []
        self._init_group({"params": parameters}, [], gradients, momenta)
        for momentum, gradient in zip(momenta, gradients, strict=True):
            momentum.lerp_(gradient, 1 - group["momentum"])
        directions = [  # Nesterov's
            gradient.lerp(momentum, group["momentum"]).bfloat16()
            for momentum, gradient in zip(momenta, gradients, strict=True)
        ]
        updates = orthogonalised(
            torch.stack(directions), group["ns_coefficients"], group["ns_steps"]
        )
        rows, columns = parameters[0].shape
        lr = group["lr"]
        # A tall matrix has the larger step: its columns are as long as those of a square one.
        scale = max(1, rows / columns) ** 0.5
        for parameter, update in zip(parameters, updates, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"]).add_(update, alpha=-lr * scale)


def orthogonalised(
    matrices: Float[Tensor, "n e c"], coefficients: tuple[float, float, float], steps: int
) -> Float[Tensor, "n e c"]:
    """Each matrix U S V^T as about U V^T, in bf16, by Newton-Schulz's iteration (Jordan et al. 2024)."""
    a, b, c = coefficients
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
