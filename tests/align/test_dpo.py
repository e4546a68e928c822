import math

import pytest
import torch

from llm.align.dpo import collate_referenced, dpo_loss, make_dpo_loss, reference_logps
from llm.align.logps import answer_logps, stack_pairs, token_kl
from llm.config.model import ModelConfig
from llm.data.pairs import EncodedPair
from llm.model import cross_entropy
from llm.model.transformer import LanguageModel, initialise
from llm.train.precision import computing
from tests.shapes import shape

PAIRS = [
    EncodedPair([0, 3, 4, 5, 6], [0, 3, 4, 7], 3),
    EncodedPair([0, 9, 8, 7], [0, 9, 5, 5, 5, 5], 2),
]


@pytest.fixture
def model(tiny: ModelConfig) -> LanguageModel:
    model = LanguageModel(tiny, 400)
    initialise(model, 1)
    return model.eval()


def test_the_loss_is_the_papers_arithmetic() -> None:
    """beta 0.1, margin (-10 + 12) - (-20 + 15) = 7: -log sigmoid(0.7) = 0.4032."""
    loss = dpo_loss(*(torch.tensor([x]) for x in (-10.0, -20.0, -12.0, -15.0)), beta=0.1)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.7)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_untouched_policy_has_loss_log_two_and_no_divergence(
    model: LanguageModel, precision: str
) -> None:
    device = torch.device("cpu")
    with computing(model, precision):
        batch = collate_referenced(reference_logps(model, PAIRS, 2, device))
        terms = make_dpo_loss(0.1)(model, batch)
    assert batch.units == 2
    assert terms["loss"].item() / 2 == pytest.approx(math.log(2), abs=1e-5)
    assert token_kl(model, model, PAIRS, 2, device) == pytest.approx(0, abs=1e-6)


def test_divergence_is_positive_between_different_models(
    model: LanguageModel, tiny: ModelConfig
) -> None:
    other = LanguageModel(tiny, 400)
    initialise(other, 2)
    assert token_kl(model, other.eval(), PAIRS, 2, torch.device("cpu")) > 1e-4


def test_stacked_pairs_spell_out() -> None:
    inputs, tokens = stack_pairs(PAIRS)
    assert inputs["ids"].tolist() == [
        [0, 3, 4, 5, 0],
        [0, 9, 8, 0, 0],
        [0, 3, 4, 0, 0],
        [0, 9, 5, 5, 5],
    ]
    assert inputs["targets"].tolist() == [
        [3, 4, 5, 6, 0],
        [9, 8, 7, 0, 0],
        [3, 4, 7, 0, 0],
        [9, 5, 5, 5, 5],
    ]
    assert inputs["loss_mask"].int().tolist() == [
        [0, 0, 1, 1, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 1, 1, 1, 1],
    ]
    assert tokens == 4 + 3 + 3 + 5


def test_answer_logps_sum_the_answers_tokens_only(model: LanguageModel) -> None:
    inputs, _ = stack_pairs(PAIRS)
    logps = model(torch.tensor([[0, 3, 4, 5]]))[0].log_softmax(-1)
    expected = logps[2, 5] + logps[3, 6]  # after prompt 0 3 4: tokens 5 and 6
    torch.testing.assert_close(answer_logps(model, inputs)[0], expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of them at a time: sequences are parted."""
    monkeypatch.setattr(cross_entropy, "LEAST_ROWS", 3)
    monkeypatch.setattr(cross_entropy, "ROW_BYTES", {"cpu": 1})


def whole_logps(model: LanguageModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    logps = model(inputs["ids"]).float().log_softmax(-1)  # (2B, T, V)
    logps = logps.gather(-1, inputs["targets"][..., None]).squeeze(-1)
    return (logps * inputs["loss_mask"]).sum(-1)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_some_rows_at_a_time_give_what_whole_distributions_do(
    few_rows: None, precision: str, tied: bool, cap: float
) -> None:
    """Values and the gradient of every weight, which each sequence has at another scale."""
    network = LanguageModel(shape(tie_embeddings=tied, logit_softcap=cap), 400)
    initialise(network, 1)
    inputs, _ = stack_pairs(PAIRS)
    scales = torch.tensor([0.5, 1.0, -2.0, 0.1])
    results = []
    for logps in (answer_logps, whole_logps):
        network.zero_grad()
        with computing(network, precision):
            found = logps(network, inputs)
            (found * scales).sum().backward()
        results.append([found, *(p.grad for p in network.parameters())])
    rounding = 1e-5 if precision == "fp32" else 2e-2
    torch.testing.assert_close(*results, rtol=rounding, atol=rounding)


def test_divergence_is_the_same_some_rows_at_a_time(
    model: LanguageModel, tiny: ModelConfig, request: pytest.FixtureRequest
) -> None:
    other, pairs, device = LanguageModel(tiny, 400).eval(), PAIRS * 2, torch.device("cpu")
    initialise(other, 2)
    whole = token_kl(model, other, pairs, 4, device)
    request.getfixturevalue("few_rows")
    assert token_kl(model, other, pairs, 4, device) == pytest.approx(whole, rel=1e-5)


def test_training_on_pairs_prefers_the_chosen_ones(model: LanguageModel) -> None:
    batch = collate_referenced(reference_logps(model, PAIRS, 2, torch.device("cpu")))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(10):
        terms = make_dpo_loss(0.1)(model, batch)
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert terms["reward_accuracy"].item() == 2
    assert terms["reward_margin"].item() > 0.05
