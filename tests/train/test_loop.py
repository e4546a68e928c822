import signal
from pathlib import Path

import pytest
import torch

from llm.errors import CheckpointError, TrainingError
from tests.train.toy import Patterns, config, run


class Killed(Exception):
    """Stands for a process that ends between two steps."""


def weights(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same(a, b, **tolerance) -> None:
    for name, value in weights(a).items():
        torch.testing.assert_close(
            value, weights(b)[name], msg=lambda text, n=name: f"{n}: {text}", **tolerance
        )


def test_the_loss_falls(tmp_path: Path) -> None:
    _, outcome = run(tmp_path, Patterns(40, 1, 4), config())
    assert outcome.history[-1]["train/loss"] < outcome.history[0]["train/loss"] - 0.3


def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path) -> None:
    whole, undisturbed = run(tmp_path / "a", Patterns(12, 2, 4), config())

    def die(step: int, metrics) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "b", Patterns(12, 2, 4), config(), die)
    resumed_at: list[int] = []
    resumed, outcome = run(
        tmp_path / "b", Patterns(12, 2, 4), config(), lambda step, _: resumed_at.append(step)
    )
    assert resumed_at[0] == 9  # the checkpoint of step 8 was used
    assert_same(whole, resumed, atol=0, rtol=0)
    assert outcome.history == undisturbed.history


def test_sigterm_saves_and_exits_143(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "a", Patterns(12, 1, 4), config())

    def ask(step: int, metrics) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        run(tmp_path / "b", Patterns(12, 1, 4), config(), ask)
    assert end.value.code == 143
    steps: list[int] = []
    resumed, _ = run(
        tmp_path / "b", Patterns(12, 1, 4), config(), lambda step, _: steps.append(step)
    )
    assert steps[0] == 7
    assert_same(whole, resumed, atol=0, rtol=0)


def test_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "a", Patterns(6, 1, 16), config())
    four, _ = run(tmp_path / "b", Patterns(6, 4, 4), config())
    assert_same(one, four, atol=1e-5, rtol=1e-4)


def test_golden_losses(tmp_path: Path) -> None:
    """A refactor must reproduce these; a change of arithmetic says so here."""
    _, outcome = run(tmp_path, Patterns(5, 2, 4), config())
    golden = [3.9298, 3.9388, 3.9107, 3.8982, 3.9139]
    assert [row["train/loss"] for row in outcome.history] == pytest.approx(golden, abs=2e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_close_to_fp32(tmp_path: Path, precision: str) -> None:
    _, exact = run(tmp_path / "a", Patterns(3, 1, 8), config())
    _, low = run(tmp_path / "b", Patterns(3, 1, 8), config(precision=precision))
    losses = [
        (a["train/loss"], b["train/loss"]) for a, b in zip(exact.history, low.history, strict=True)
    ]
    assert all(abs(a - b) < 0.05 for a, b in losses)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="not finite; lower optim"):
        run(tmp_path, Patterns(30, 1, 4), config(optim={"lr": 1e30, "grad_clip": 1e30}))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        run(tmp_path, Patterns(4, 1, 4), config())


def test_validation_weighs_every_token_the_same(tmp_path: Path) -> None:
    _, outcome = run(
        tmp_path,
        Patterns(5, 1, 4),
        config(eval_interval=1, eval_batches=3, checkpoint_interval=100),
    )
    assert sum("val/loss" in row for row in outcome.history) == 5
    assert outcome.final["val/loss"] == outcome.history[-1]["val/loss"]
