import pytest
import torch

from llm.model.dropout import dropout, keep_mask

N = 400_003  # not a multiple of the places of a draw


@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_place_is_kept_with_its_probability_independently(
    p: float, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    mask = keep_mask(torch.empty(N, dtype=dtype), p)
    assert mask.dtype == dtype
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    deviation = 5 * (p * (1 - p) / N) ** 0.5
    kept = mask.double()
    assert abs(kept.mean().item() - (1 - p)) < deviation
    for distance in range(1, 9):  # the places of a draw, and of its neighbours
        both = (kept[distance:] * kept[:-distance]).mean().item()
        assert abs(both - (1 - p) ** 2) < 3 * deviation
    assert not torch.equal(mask, keep_mask(mask, p))


def test_what_is_kept_grows_and_its_gradient_too() -> None:
    torch.manual_seed(1)
    x = torch.randn(64, 65, requires_grad=True)
    y = dropout(x, 0.2, training=True)
    y.sum().backward()
    assert x.grad is not None
    kept = y != 0
    assert 0.7 < kept.double().mean() < 0.9
    torch.testing.assert_close(y, torch.where(kept, x / 0.8, 0.0))
    torch.testing.assert_close(x.grad, kept / 0.8)


def test_one_seed_gives_one_mask() -> None:
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(keep_mask(torch.empty(2, 33), 0.3))
    assert torch.equal(*masks)


def test_nothing_is_dropped_outside_of_training_or_with_probability_0() -> None:
    x = torch.randn(9)
    state = torch.get_rng_state()
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_compiled_function_drops_in_backward_what_it_dropped_in_forward() -> None:
    torch.manual_seed(1)
    x = torch.randn(32, 64, requires_grad=True)
    y = torch.compile(lambda x: dropout(x * 2, 0.4, training=True))(x)
    y.sum().backward()
    assert x.grad is not None
    assert 0.4 < (y != 0).double().mean() < 0.8
    torch.testing.assert_close(x.grad, (y != 0) * (2 / 0.6))
