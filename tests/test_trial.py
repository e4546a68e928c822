"""Some steps of a stage, timed: here by a clock that counts FLOPs, which no busy machine puts out."""

import pytest

from llm import trial
from llm.config.params import TRAINING
from llm.trial import try_stage
from tests.plan.flop_clock import flops
from tests.plan.params import params

SMALL = {"pretrain.device": "cpu", "sft.device": "cpu", "reward.device": "cpu", "dpo.device": "cpu"}


@pytest.fixture(autouse=True)
def _flops_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_seconds", flops)


@pytest.mark.parametrize("stage", TRAINING)
def test_a_step_has_backward_and_an_update_and_evaluation_has_not(stage: str) -> None:
    speed = try_stage(params("smoke", SMALL), stage)
    assert 0 < 2 * speed.eval_s < speed.step_s


@pytest.mark.parametrize("most", [3e8, 1e8])  # some rows; fewer layers too
def test_a_part_of_a_large_network_stands_for_all_of_it(
    monkeypatch: pytest.MonkeyPatch, most: float
) -> None:
    large = params("smoke", SMALL | {"model.n_layer": 8})
    whole = try_stage(large, "pretrain")
    monkeypatch.setattr(trial, "TRIAL_FLOPS", most)
    part = try_stage(large, "pretrain")
    assert part.step_s == pytest.approx(whole.step_s, rel=0.15)
    assert part.eval_s == pytest.approx(whole.eval_s, rel=0.15)
