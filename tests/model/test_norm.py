"""RMSNorm's way for bf16 on a CPU, against the formula in fp32."""

import pytest
import torch
from torch import Tensor

from llm.model.norm import RMSNorm


@pytest.mark.parametrize("shape", [(3, 5, 64), (2, 7, 3, 16)])
def test_rmsnorm_in_bf16_is_the_formula_to_rounding_and_so_are_its_gradients(
    shape: tuple[int, ...],
) -> None:
    generator = torch.Generator().manual_seed(1)
    # a mean far from 0, which LayerNorm would take away
    x = (torch.randn(shape, generator=generator) + 2).bfloat16().requires_grad_()
    dy = (torch.randn(shape, generator=generator) + 1).bfloat16()
    norm = RMSNorm(shape[-1], eps=1e-5)
    torch.nn.init.normal_(norm.weight, mean=1.0, generator=generator)
    exact, weight = (each.detach().float().requires_grad_() for each in (x, norm.weight))

    y = norm(x)
    wanted = exact * (exact.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * weight
    y.backward(dy)
    wanted.backward(dy.float())

    assert y.dtype == torch.bfloat16
    assert relative_error(y, wanted) < 0.005
    assert relative_error(x.grad, exact.grad) < 0.006
    assert relative_error(norm.weight.grad, weight.grad) < 0.006


def relative_error(found: Tensor | None, wanted: Tensor | None) -> float:
    assert found is not None
    assert wanted is not None
    return ((found.float() - wanted).norm() / wanted.norm()).item()
