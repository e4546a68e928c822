import pytest
import torch
from torch import Tensor

from llm.model import causal
from llm.model.attention import explicit_attention
from llm.model.causal import causal_attention


def draw(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    heads = (4, 2, 2)
    return [
        torch.randn(2, n, 40, 16, generator=generator).to(dtype).requires_grad_() for n in heads
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
def test_tiles_are_explicit_attention_and_so_are_their_gradients(
    dtype: torch.dtype, tolerance: float, monkeypatch
) -> None:
    monkeypatch.setattr(causal, "TILE", 12)  # four, the last one shorter
    tiled, exact = draw(dtype), draw(torch.float32)
    y = causal_attention(*tiled)
    expected = explicit_attention(*exact)
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=tolerance)
    (y.float() * expected.detach()).sum().backward()
    (expected * expected.detach()).sum().backward()
    for found, wanted in zip(tiled, exact, strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        torch.testing.assert_close(found.grad.float(), wanted.grad, rtol=0, atol=4 * tolerance)
