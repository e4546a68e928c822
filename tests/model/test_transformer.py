import math

import pytest
import torch
import torch.nn.functional as F
from beartype import beartype
from jaxtyping import jaxtyped

from llm.config.model import ModelConfig
from llm.config.presets import apply_preset
from llm.model import transformer
from llm.model.transformer import (
    LanguageModel,
    RewardModel,
    RMSNorm,
    Rotary,
    flops_per_token,
    initialise,
    parameter_count,
    rotate,
)
from tests.conftest import ROOT

VOCAB = 400


@pytest.fixture
def model(tiny: ModelConfig) -> LanguageModel:
    model = LanguageModel(tiny, VOCAB)
    initialise(model, 1)
    return model.eval()


def test_a_token_never_influences_earlier_logits(model: LanguageModel) -> None:
    ids = torch.randint(VOCAB, (2, 20), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 10] = (changed[:, 10] + 1) % VOCAB
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10:], after[:, 10:])


def test_shapes_are_what_the_annotations_say(tiny: ModelConfig, monkeypatch) -> None:
    for cls in (transformer.Attention, transformer.SwiGLU, transformer.Block, transformer.Backbone):
        monkeypatch.setattr(cls, "forward", jaxtyped(typechecker=beartype)(cls.forward))
    assert LanguageModel(tiny, VOCAB)(torch.zeros(3, 7, dtype=torch.int64)).shape == (3, 7, VOCAB)


def test_kept_logits_are_the_same_rows_of_all_logits(model: LanguageModel) -> None:
    ids = torch.randint(VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    keep = torch.rand(2, 9, generator=torch.Generator().manual_seed(1)) > 0.5
    torch.testing.assert_close(model(ids, keep=keep), model(ids)[keep])


def test_an_explicit_causal_mask_equals_the_implicit_one(model: LanguageModel) -> None:
    ids = torch.randint(VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(9, 9, dtype=torch.bool).tril().expand(2, 1, 9, 9)
    torch.testing.assert_close(model(ids, mask=mask), model(ids), atol=1e-5, rtol=1e-5)


def test_rmsnorm_divides_by_the_root_mean_square() -> None:
    norm = RMSNorm(2, eps=0.0)
    torch.testing.assert_close(
        norm(torch.tensor([[3.0, 4.0]])), torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5)
    )


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


def test_grouped_queries_equal_repeated_key_value_heads(tiny: ModelConfig) -> None:
    """With n_kv_head = 2 of 4, head h reads key/value head h // 2: worked out by hand."""
    attention = transformer.Attention(tiny, 0)
    x = torch.randn(1, 5, tiny.n_embd, generator=torch.Generator().manual_seed(0))
    cos, sin = Rotary(tiny.head_dim, 10_000.0)(torch.arange(5)[None])
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


def test_a_reward_reads_the_last_real_token_and_no_padding(tiny: ModelConfig) -> None:
    model = RewardModel(tiny, VOCAB)
    short = torch.tensor([[1, 2, 3]])
    padded = torch.tensor([[1, 2, 3, 0, 0]])
    torch.testing.assert_close(model(short, torch.tensor([2])), model(padded, torch.tensor([2])))


def test_initialisation_depends_on_the_seed_alone(tiny: ModelConfig) -> None:
    first, second, other = (LanguageModel(tiny, VOCAB) for _ in range(3))
    initialise(first, 1)
    initialise(second, 1)
    initialise(other, 2)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


def test_gpt2_124m_preset_builds_with_the_expected_parameters() -> None:
    """Embedding 50,304 x 768; per layer 4 x 768² attention, 3 x 768 x 2048 SwiGLU, 2 norms; a final norm."""
    from io import StringIO

    from ruamel.yaml import YAML

    from llm.config.params import Params

    text = apply_preset((ROOT / "params.yaml").read_text(), "gpt2-124m", ROOT / "presets")
    params = Params.model_validate(YAML(typ="safe").load(StringIO(text)))
    with torch.device("meta"):
        model = LanguageModel(params.model, params.tokenizer.vocab_size)
    layer = 4 * 768**2 + 3 * 768 * 2048 + 2 * 768
    assert parameter_count(model) == 50_304 * 768 + 12 * layer + 768 == 123_587_328
    assert (
        flops_per_token(model, 1024)
        == 6 * (50_304 * 768 + 12 * (layer - 2 * 768)) + 12 * 12 * 768 * 1024
    )
