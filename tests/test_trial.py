"""Some steps of a stage, timed."""

import pytest

from llm import trial
from llm.config.params import TRAINING
from llm.trial import try_stage
from tests.plan.params import params

SMALL = {"pretrain.device": "cpu", "sft.device": "cpu", "reward.device": "cpu", "dpo.device": "cpu"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LEAST_S", 0.0)


@pytest.mark.parametrize("stage", TRAINING)
def test_a_step_has_backward_and_an_update_and_evaluation_has_not(stage: str) -> None:
    speed = try_stage(params("smoke", SMALL), stage)
    assert 0 < speed.eval_s < speed.step_s


def test_a_part_of_a_large_network_stands_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    large = params("smoke", SMALL | {"model.n_layer": 8})
    whole = try_stage(large, "pretrain")
    monkeypatch.setattr(trial, "TRIAL_FLOPS", 1e9)  # some rows
    assert try_stage(large, "pretrain").step_s == pytest.approx(whole.step_s, rel=0.9)
