import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.config.model import ModelConfig
from llm.model.mask import attention_mask, document_mask, seen
from llm.model.transformer import LanguageModel, initialise
from tests.shapes import shape

CPU = torch.device("cpu")


def pattern(attention: str, window: int) -> ModelConfig:
    return shape(attention=attention, window=0 if attention == "full" else window)


def test_a_sliding_window_is_this_matrix() -> None:
    assert seen(pattern("sliding_window", 2), 4, 4, CPU).int().tolist() == [
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]


def test_the_strided_pattern_is_this_matrix() -> None:
    """Stride 3: the three newest, and those 3, 6, ... back (Child et al. 2019, figure 3b)."""
    assert seen(pattern("strided", 3), 8, 8, CPU).int().tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 1, 1, 0],
        [0, 1, 0, 0, 1, 1, 1, 1],
    ]


@given(
    st.sampled_from(["full", "sliding_window", "strided"]),
    st.integers(1, 20),
    st.integers(1, 40),
)
@settings(max_examples=60)
def test_mean_keys_counts_the_mask(attention: str, window: int, n_tokens: int) -> None:
    config = pattern(attention, window)
    mask = seen(config, n_tokens, n_tokens, CPU)
    assert mask.sum().item() == pytest.approx(config.mean_keys(n_tokens) * n_tokens)
    assert mask.diagonal().all()
    assert not mask.triu(1).any()
    assert torch.equal(seen(config, 1, n_tokens, CPU), mask[-1:])


def test_full_attention_keeps_the_fused_causal_kernel() -> None:
    assert attention_mask(shape(), 8, None, CPU) is None


def test_documents_in_a_row_see_themselves_alone() -> None:
    positions = torch.tensor([[0, 1, 0, 1, 2]])
    assert document_mask(positions)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 1, 1, 1],
    ]


@pytest.mark.parametrize("positions", ["learned", "sinusoidal", "rope", "none"])
def test_packed_documents_have_the_logits_they_have_alone(positions: str) -> None:
    model = LanguageModel(shape(positions=positions), 50).eval()
    initialise(model, 1)
    first, second = torch.tensor([[1, 2, 3]]), torch.tensor([[4, 5, 6, 7]])
    places = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])
    packed = model(torch.cat([first, second], 1), positions=places, mask=document_mask(places))
    torch.testing.assert_close(packed[:, :3], model(first), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(packed[:, 3:], model(second), atol=1e-5, rtol=1e-5)
