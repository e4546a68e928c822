import functools
import signal
from pathlib import Path

import pytest
import torch

from llm.errors import TrainingError
from llm.model.transformer import LanguageModel
from llm.train.next_token import next_token_loss
from tests.shapes import LSTM
from tests.train.toy import SHAPE, VOCAB, Patterns, config, run


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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("parts", [{}, {"dropout": 0.3}, LSTM], ids=["plain", "dropout", "lstm"])
def test_resumed_equals_uninterrupted_to_the_bit(tmp_path: Path, optimizer, parts) -> None:
    settings = config(optim={"optimizer": optimizer})
    whole, undisturbed = run(tmp_path / "a", Patterns(12, 2, 4), settings, **parts)

    def die(step: int, metrics) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "b", Patterns(12, 2, 4), settings, die, **parts)
    resumed_at: list[int] = []
    resumed, outcome = run(
        *(tmp_path / "b", Patterns(12, 2, 4), settings, lambda step, _: resumed_at.append(step)),
        **parts,
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


def test_muon_lowers_the_loss_and_works_in_low_precision(tmp_path: Path) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        settings = config(optim={"optimizer": "muon"}, precision=precision)
        _, outcome = run(tmp_path / precision, Patterns(40, 1, 4), settings)
        assert outcome.history[-1]["train/loss"] < outcome.history[0]["train/loss"] - 0.3


def test_a_z_loss_is_log_z_squared_and_is_no_part_of_the_loss(tmp_path: Path) -> None:
    batch = Patterns(1, 1, 4).micro_batch(0, 0)
    model = LanguageModel(SHAPE, VOCAB)
    plain = next_token_loss(model, batch)
    terms = next_token_loss(model, batch, z_loss=0.5)
    logits = model(batch.inputs["ids"], keep=batch.inputs["loss_mask"])
    torch.testing.assert_close(terms["penalty"], 0.5 * (logits.logsumexp(-1) ** 2).sum())
    assert torch.equal(terms["loss"], plain["loss"])
    assert "penalty" not in plain
    pulled = functools.partial(next_token_loss, z_loss=1.0)
    _, free = run(tmp_path / "a", Patterns(30, 1, 4), config())
    _, held = run(tmp_path / "b", Patterns(30, 1, 4), config(), loss_fn=pulled)
    assert held.history[-1]["train/penalty"] < held.history[0]["train/penalty"] / 2
    assert "val/penalty" in held.final
    assert free.history[0]["train/loss"] == held.history[0]["train/loss"]


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


def test_validation_weighs_every_token_the_same(tmp_path: Path) -> None:
    _, outcome = run(
        tmp_path,
        Patterns(5, 1, 4),
        config(eval_interval=1, eval_batches=3),
    )
    assert sum("val/loss" in row for row in outcome.history) == 5
    assert outcome.final["val/loss"] == outcome.history[-1]["val/loss"]
