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


def test_dropout_by_tiles_is_that_of_explicit_attention_with_the_same_masks(monkeypatch) -> None:
    monkeypatch.setattr(causal, "TILE", 12)

    def every_third(x: Tensor, p: float) -> Tensor:
        """A mask by what a place's query and key are, whatever the tile."""
        queries = torch.arange(x.shape[-2])[:, None] + (x.shape[-1] - x.shape[-2])
        return ((queries + torch.arange(x.shape[-1])) % 3 > 0).expand_as(x).to(x.dtype)

    monkeypatch.setattr(causal, "keep_mask", every_third)
    monkeypatch.setattr("llm.model.dropout.keep_mask", lambda x, p: every_third(x, p).clone())
    tiled, exact = draw(torch.float32), draw(torch.float32)
    y, expected = causal_attention(*tiled, 0.3), explicit_attention(*exact, p=0.3)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
    for output in (y, expected):
        (output * expected.detach()).sum().backward()
    for found, wanted in zip(tiled, exact, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=0, atol=4e-5)
