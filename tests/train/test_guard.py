"""Steps that must not reach the weights."""

import functools
from pathlib import Path

import pytest
import torch

from llm.config.train import OptimConfig
from llm.errors import TrainingError
from llm.train.guard import StepGuard
from llm.train.next_token import next_token_loss
from tests.train.toy import OPTIM, Patterns, config, run


def guard(**changes) -> StepGuard:
    return StepGuard(OptimConfig.model_validate(OPTIM | changes))


def test_an_outlier_is_beyond_k_deviations_of_the_window() -> None:
    """Losses 1, 3, 1, 3: mean 2, deviation 1. With 3 sigma, 5 passes and 5.1 does not."""
    judge = guard(skip_sigma=3.0, skip_window=4)
    for loss in (1.0, 3.0, 1.0, 3.0):
        assert judge.accepts(loss, 1.0, scaled=False)
    same = guard(skip_sigma=3.0, skip_window=4)
    same.load_state_dict(judge.state_dict())
    assert judge.accepts(5.0, 1.0, scaled=False)
    assert not same.accepts(5.1, 1.0, scaled=False)
    assert (judge.skipped, same.skipped) == (0, 1)


def test_the_gradient_norm_is_judged_as_well() -> None:
    judge = guard(skip_sigma=2.0, skip_window=2)
    for norm in (1.0, 2.0):
        assert judge.accepts(4.0, norm, scaled=False)
    assert not judge.accepts(4.0, 50.0, scaled=False)


def test_a_lasting_change_is_soon_the_normal() -> None:
    judge = guard(skip_sigma=3.0, skip_window=5)
    losses = [1.0, 1.1, 1.0, 1.1, 1.0] + [9.0, 9.1] * 5
    verdicts = [judge.accepts(loss, 1.0, scaled=False) for loss in losses]
    assert verdicts[5] is False
    assert all(verdicts[-4:])


def test_nothing_is_skipped_unless_asked_for() -> None:
    judge = guard()
    assert all(judge.accepts(loss, 1.0, scaled=False) for loss in [1.0] * 20 + [1e6])
    assert not judge.is_on


def poisoned(model, batch, *, bad_steps: dict[int, float], count: list[int]):
    """The loss, finite, but its gradient times a number at some calls."""
    terms = next_token_loss(model, batch)
    factor = bad_steps.get(count[0], 1.0)
    count[0] += model.training
    loss = 1.0 * terms["loss"]
    if loss.requires_grad:
        loss.register_hook(lambda gradient: gradient * factor)
    return {"loss": loss}


def train_poisoned(work: Path, bad_steps: dict[int, float], steps: int = 20, **optim):
    loss = functools.partial(poisoned, bad_steps=bad_steps, count=[0])
    settings = config(optim=optim, eval_interval=1000)
    return run(work, Patterns(steps, 1, 4), settings, loss_fn=loss)


def test_a_nan_in_a_gradient_stops_before_the_update(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"gradient norm=nan is not finite; lower optim.lr"):
        train_poisoned(tmp_path, {6: float("nan")})
    newest = max(tmp_path.glob("step-*"))
    assert newest.name == "step-000000004"  # the last good one
    tensors = torch.load(newest / "tensors.pt", weights_only=True)
    assert all(value.isfinite().all() for value in tensors.values())


def test_or_skips_the_step_and_counts_it(tmp_path: Path, caplog) -> None:
    model, outcome = train_poisoned(tmp_path, {6: float("nan"), 9: float("inf")}, nonfinite="skip")
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert [row["train/skipped"] for row in outcome.history] == [0] * 6 + [1] * 3 + [2] * 11
    assert caplog.text.count("skipped a step: gradient norm=") == 2


def test_a_skipped_step_leaves_the_weights_as_they_are(tmp_path: Path) -> None:
    """A step of a huge gradient is as if its loss had none, but for the schedule."""
    kept: list[torch.Tensor] = []

    def watching(model, batch):
        kept.append(model.backbone.embed.weight.detach().clone())
        return poisoned(model, batch, bad_steps={15: 1e4}, count=[len(kept) - 1])

    settings = config(
        optim={"skip_sigma": 6.0, "skip_window": 10}, eval_interval=1000, eval_batches=1
    )
    _, outcome = run(tmp_path, Patterns(18, 1, 4), settings, loss_fn=watching)
    assert outcome.history[15]["train/skipped"] == 1
    assert torch.equal(kept[15], kept[16])
    assert not torch.equal(kept[16], kept[17])


def test_what_was_seen_before_an_interruption_is_remembered(tmp_path: Path) -> None:
    optim = {"skip_sigma": 2.0, "skip_window": 3}
    _, whole = run(tmp_path / "a", Patterns(16, 1, 4), config(optim=optim))

    def die(step: int, metrics) -> None:
        if step == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(tmp_path / "b", Patterns(16, 1, 4), config(optim=optim), die)
    _, resumed = run(tmp_path / "b", Patterns(16, 1, 4), config(optim=optim))
    assert resumed.history == whole.history
    assert whole.history[-1]["train/skipped"] > 0
