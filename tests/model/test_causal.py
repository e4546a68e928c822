import pytest
import torch
from torch import Tensor

from llm.model import causal
from llm.model.attention import explicit_attention
from llm.model.causal import causal_attention
from llm.model.mask import added, document_mask


def draw(dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    heads = (4, 2, 2)
    return [
        torch.randn(2, n, 40, 16, generator=generator).to(dtype).requires_grad_() for n in heads
    ]


def visible(window: int, documents: bool) -> Tensor:
    """What a query sees, in two rows whose documents differ."""
    distance = torch.arange(40)[:, None] - torch.arange(40)
    mask = ((distance >= 0) & (distance < (window or 40)))[None, None]
    positions = torch.stack([torch.arange(40) % 7, torch.arange(40) % 25])
    return mask & document_mask(positions) if documents else mask


def assert_same_gradients(y: Tensor, expected: Tensor, found, wanted, tolerance: float) -> None:
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=tolerance)
    (y.float() * expected.detach()).sum().backward()
    (expected * expected.detach()).sum().backward()
    for one, other in zip(found, wanted, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad.float(), other.grad, rtol=0, atol=4 * tolerance)


@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("window", [0, 1, 5, 12, 30, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.04)])
def test_tiles_are_explicit_attention_and_so_are_their_gradients(
    dtype: torch.dtype, tolerance: float, window: int, documents: bool, monkeypatch
) -> None:
    monkeypatch.setattr(causal, "TILE", 12)  # four, the last one shorter
    tiled, exact = draw(dtype), draw(torch.float32)
    mask = visible(window, documents)
    y = causal_attention(*tiled, added(mask, dtype) if documents else None, window=window)
    assert_same_gradients(y, explicit_attention(*exact, mask), tiled, exact, tolerance)


@pytest.mark.parametrize(("window", "documents"), [(0, False), (5, False), (12, True)])
def test_dropout_by_tiles_is_that_of_explicit_attention_with_the_same_masks(
    window: int, documents: bool, monkeypatch
) -> None:
    monkeypatch.setattr(causal, "TILE", 12)

    def every_third(x: Tensor, p: float) -> Tensor:
        """A mask by how far a place's key is from its query, whatever the tile."""
        queries = torch.arange(x.shape[-2])[:, None] + (x.shape[-1] - x.shape[-2])
        return ((queries - torch.arange(x.shape[-1])) % 3 < 2).expand_as(x).to(x.dtype)

    monkeypatch.setattr(causal, "keep_mask", every_third)
    monkeypatch.setattr("llm.model.dropout.keep_mask", lambda x, p: every_third(x, p).clone())
    tiled, exact = draw(torch.float32), draw(torch.float32)
    mask = visible(window, documents)
    given = added(mask, torch.float32) if documents else None
    y = causal_attention(*tiled, given, p=0.3, window=window)
    assert_same_gradients(y, explicit_attention(*exact, mask, p=0.3), tiled, exact, 1e-5)
