import math

import pytest
import torch
import torch.nn.functional as F

from llm.model.attention import Attention, explicit_attention
from llm.model.feed_forward import build_feed_forward
from llm.model.norm import LayerNorm, RMSNorm
from llm.model.positions import LearnedPositions, Rotary, SinusoidalPositions, rotate
from tests.shapes import shape


def test_rmsnorm_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(2, eps=0.0)
    torch.testing.assert_close(
        norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5)
    )


def test_layernorm_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    """3 and 7: mean 5, deviation 2."""
    norm = LayerNorm(2, eps=0.0, bias=True)
    norm.weight.data, norm.bias.data = torch.tensor([2.0, 1.0]), torch.tensor([0.0, 0.5])
    torch.testing.assert_close(norm(torch.tensor([[3.0, 7.0]])), torch.tensor([[-2.0, 1.5]]))


def test_rotary_attention_depends_on_distance_only() -> None:
    rotary = Rotary(8, 10_000.0)
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8, generator=generator)

    def score(q_at: int, k_at: int) -> torch.Tensor:
        return (
            rotate(q, *rotary(torch.tensor([[q_at]]))) * rotate(k, *rotary(torch.tensor([[k_at]])))
        ).sum()

    torch.testing.assert_close(score(5, 2), score(25, 22))
    assert not torch.isclose(score(5, 2), score(5, 3))


def test_linear_scaling_is_closer_positions() -> None:
    scaling = shape().rope_scaling.model_copy(update={"kind": "linear", "factor": 4.0})
    there = torch.arange(0, 32, 4)[None]
    for a, b in zip(
        Rotary(8, 10_000.0, scaling)(there), Rotary(8, 10_000.0)(there // 4), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_sinusoids_are_the_papers() -> None:
    """Vaswani et al. 3.5: PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i+1) = cos(same)."""
    waves = SinusoidalPositions(4)(torch.zeros(1, 3, 4), torch.tensor([[0, 1, 2]]))
    expected = [
        [math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in (0.0, 1.0, 2.0)
    ]
    torch.testing.assert_close(waves[0], torch.tensor(expected))
    scaled = SinusoidalPositions(4)(torch.ones(1, 3, 4), torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(scaled - waves, torch.full((1, 3, 4), 2.0))  # sqrt(4) x


def test_learned_positions_add_their_row() -> None:
    positions = LearnedPositions(6, 3)
    x = positions(torch.zeros(1, 2, 3), torch.tensor([[4, 1]]))
    torch.testing.assert_close(x[0], positions.embed.weight[[4, 1]])


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("relu", lambda x: x.clamp(min=0)),
        ("relu2", lambda x: x.clamp(min=0) ** 2),
        (
            "gelu",
            lambda x: 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
    ],
)
def test_a_feed_forward_is_down_of_the_activation_of_up(name: str, activation) -> None:
    mlp = build_feed_forward(shape(feed_forward=name, bias=True))
    x = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    hidden = activation(F.linear(x, mlp.up.weight, mlp.up.bias))
    expected = F.linear(hidden, mlp.down.weight, mlp.down.bias)
    torch.testing.assert_close(mlp(x), expected, atol=1e-5, rtol=1e-5)


def test_grouped_queries_equal_repeated_key_value_heads() -> None:
    """With n_kv_head = 2 of 4, head h reads key/value head h // 2: worked out by hand."""
    attention = Attention(shape(), 0)
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    cos, sin = Rotary(8, 10_000.0)(torch.arange(5)[None])
    q, k, v = (
        part(x).unflatten(-1, (-1, 8)).transpose(1, 2)
        for part in (attention.q, attention.k, attention.v)
    )
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    heads = []
    for h in range(4):
        scores = q[0, h] @ k[0, h // 2].T / math.sqrt(8)
        scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -math.inf)
        heads.append(scores.softmax(-1) @ v[0, h // 2])
    expected = F.linear(torch.cat(heads, -1), attention.out.weight)
    torch.testing.assert_close(
        attention(x, (cos, sin), None, None)[0], expected, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_explicit_attention_equals_the_fused_kernel(masked: bool, kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 9, 8, generator=generator)
    k, v = torch.randn(2, 2, kv_heads, 9, 8, generator=generator)
    mask = None
    if masked:
        mask = torch.rand(2, 1, 9, 9, generator=generator) > 0.5
        mask |= torch.eye(9, dtype=torch.bool)
    fused = F.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )
    torch.testing.assert_close(explicit_attention(q, k, v, mask), fused, atol=1e-5, rtol=1e-5)


def test_a_soft_cap_squeezes_the_scores() -> None:
    """One query on two keys with scores 30 and 0, cap 10: weights of 10 tanh(3) and 0."""
    q, k = torch.tensor([[[[30.0]]]]), torch.tensor([[[[1.0], [0.0]]]])
    v = torch.tensor([[[[1.0], [0.0]]]])
    mask = torch.ones(1, 1, 1, 2, dtype=torch.bool)
    weight = 1 / (1 + math.exp(-10 * math.tanh(3)))
    y = explicit_attention(q, k, v, mask, softcap=10.0)
    assert y.item() == pytest.approx(weight)
    small = explicit_attention(q, k, v, mask, softcap=1.0)
    assert small.item() == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-6)


def test_normalised_queries_and_keys_ignore_their_length() -> None:
    attention = Attention(shape(qk_norm=True, positions="none"), 0)
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    before = attention(x, None, None, None)
    attention.q.weight.data *= 50
    torch.testing.assert_close(attention(x, None, None, None), before, atol=1e-3, rtol=1e-3)
