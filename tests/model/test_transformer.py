import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from llm.config.model import ModelConfig
from llm.model import attention, feed_forward, norm, positions, transformer
from llm.model.transformer import LanguageModel, RewardModel, initialise
from tests.shapes import GPT2, shape

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
    parts = (
        attention.Attention,
        feed_forward.SwiGLU,
        transformer.Block,
        transformer.TransformerBackbone,
    )
    for cls in (*parts, norm.RMSNorm, norm.LayerNorm, positions.Rotary):
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


def test_biases_begin_at_zero_and_norms_at_one() -> None:
    model = LanguageModel(shape(**GPT2), VOCAB)
    initialise(model, 1)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name


def test_dropout_acts_in_training_alone() -> None:
    model = LanguageModel(shape(dropout=0.5), VOCAB)
    ids = torch.arange(20)[None]
    model.train()
    assert not torch.equal(model(ids), model(ids))
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_capped_logits_stay_within_the_cap() -> None:
    model = LanguageModel(shape(logit_softcap=0.1), VOCAB)
    plain = LanguageModel(shape(), VOCAB)
    plain.load_state_dict(model.state_dict())
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model(ids), 0.1 * torch.tanh(plain(ids) / 0.1))
