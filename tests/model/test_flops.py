import pytest
import torch

from llm.model.flops import backbone_flops_per_token, flops_per_token, parameter_count
from llm.model.transformer import LanguageModel
from tests.shapes import GPT2, shape


def on_meta(vocab_size: int = 100, **changes) -> LanguageModel:
    with torch.device("meta"):
        return LanguageModel(shape(**changes), vocab_size)


def test_llamas_flops_are_palms_arithmetic() -> None:
    """Width 32, heads 4 and 2 of 8, inner 48, 2 layers: 6 per weight, and 12 T C per layer."""
    layer = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48
    assert flops_per_token(on_meta(), 64) == 6 * (100 * 32 + 2 * layer) + 2 * 12 * 32 * 64


def test_neither_positions_nor_biases_nor_tied_embeddings_count() -> None:
    plain = flops_per_token(on_meta(n_kv_head=4, feed_forward="gelu"), 64)
    assert flops_per_token(on_meta(**GPT2), 64) == plain
    assert flops_per_token(on_meta(**GPT2, tie_embeddings=False), 64) == plain
    assert flops_per_token(on_meta(**GPT2, qk_norm=True), 64) == plain


def test_wider_heads_count_at_their_width() -> None:
    """Heads of 16 for n_embd 32: 4 of them are 64 wide."""
    layer = 2 * 32 * 64 + 2 * 32 * 32 + 3 * 32 * 48
    found = flops_per_token(on_meta(head_dim=16), 64)
    assert found == 6 * (100 * 32 + 2 * layer) + 2 * 12 * 64 * 64


@pytest.mark.parametrize(
    ("attention", "window", "keys"),
    [
        ("sliding_window", 64, 64),  # the whole block
        ("sliding_window", 8, 2 * (8 * 64 - 8 * 7 / 2) / 64 - 1),
        (
            "strided",
            32,
            2 * (32 * 64 - 32 * 31 / 2 + 32) / 64 - 1,
        ),  # and one, 32 back, for half of them
    ],
)
def test_a_sparse_pattern_counts_the_keys_it_sees(attention, window, keys) -> None:
    dense = backbone_flops_per_token(on_meta().backbone) + 6 * 100 * 32
    found = flops_per_token(on_meta(attention=attention, window=window), 64)
    assert found == dense + round(2 * 12 * 32 * keys)


def test_an_lstms_flops_are_its_matrices() -> None:
    """Width 32: each of 2 layers has 8 x 32² weights; nothing grows with the block."""
    model = on_meta(kind="lstm")
    assert flops_per_token(model, 64) == flops_per_token(model, 8) == 6 * (100 * 32 + 2 * 8 * 32**2)


def test_tied_parameters_count_once() -> None:
    assert parameter_count(on_meta(tie_embeddings=False)) - parameter_count(on_meta()) == 100 * 32
