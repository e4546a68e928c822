"""What is on disk of a run in progress, and what becomes of it when it or its makings are spoilt."""

import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import torch

from llm.errors import CheckpointError
from llm.train import checkpoint
from llm.train.storage import read_values, write_whole
from tests.train.toy import Patterns, config, run
from tests.waiting import PATIENCE_S


class Killed(Exception):
    """Stands for a process that ends between two steps."""


def die_after(last: int):
    def log(step: int, metrics) -> None:
        if step == last:
            raise Killed

    return log


def interrupted(work: Path, last: int = 11, **changes) -> None:
    """A run of 16 steps that ends in step `last`; checkpoints come every 4."""
    with pytest.raises(Killed):
        run(work, Patterns(16, 1, 4), config(**changes), die_after(last))


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))


def steps(work: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in sorted(work.glob("step-*"))]


def resumed_at(work: Path, **changes) -> int:
    """The first step after the checkpoint that a run goes on from."""
    seen: list[int] = []
    run(work, Patterns(16, 1, 4), config(**changes), lambda step, _: seen.append(step))
    return seen[0]


def test_the_last_are_kept_and_nothing_half_written(tmp_path: Path) -> None:
    interrupted(tmp_path, last=13, checkpoint={"steps": 2, "keep_last": 3})
    assert steps(tmp_path) == [8, 10, 12]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("step-000000008", "step-000000010", "step-000000012")
    ]


def test_sha256sum_can_check_a_checkpoint(tmp_path: Path) -> None:
    interrupted(tmp_path)
    folder = tmp_path / "step-000000008"
    assert sorted(path.name for path in folder.iterdir()) == [
        *("SHA256SUMS", "run.json", "tensors.pt")
    ]
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def test_minutes_make_checkpoints_and_change_no_result(tmp_path: Path) -> None:
    plain, outcome = run(tmp_path / "a", Patterns(6, 1, 4), config())
    settings = config(checkpoint={"steps": 0, "minutes": 1e-9, "keep_last": 9})
    often, equal = run(tmp_path / "b", Patterns(6, 1, 4), settings)
    assert steps(tmp_path / "b") == [1, 2, 3, 4, 5, 6]
    assert outcome.history == equal.history
    assert same(plain, often)


def test_the_best_by_validation_loss_are_kept_and_can_be_the_result(tmp_path: Path) -> None:
    """With a rate far too high the loss rises again after a while."""
    best = {"steps": 4, "keep_last": 1, "keep_best": 1, "result": "best"}
    optim = {"lr": 0.3, "schedule": "constant"}
    settings = config(optim=optim, eval_interval=3, eval_batches=3, checkpoint=best)
    model, outcome = run(tmp_path, Patterns(16, 1, 4), settings)
    scores = {row["step"]: row["val/loss"] for row in outcome.history if "val/loss" in row}
    validated = {step: score for step, score in scores.items() if step < 16}
    lowest = min(validated, key=validated.__getitem__)
    assert lowest < 15
    assert steps(tmp_path) == [lowest, 16]
    assert read_values(tmp_path / f"step-{lowest:09d}")["score"] == scores[lowest]
    kept = torch.load(tmp_path / f"step-{lowest:09d}" / "tensors.pt", weights_only=True)
    assert all(torch.equal(p, kept[f"model/{name}"]) for name, p in model.named_parameters())
    assert outcome.final["val/loss"] == pytest.approx(scores[lowest], rel=1e-6)  # the same batches


def test_the_best_is_remembered_by_a_resumed_run(tmp_path: Path) -> None:
    changes = {
        "checkpoint": {"keep_last": 1, "keep_best": 2, "result": "best"},
        "optim": {"lr": 0.3, "schedule": "constant"},
        "eval_interval": 3,
    }
    whole, outcome = run(tmp_path / "a", Patterns(16, 1, 4), config(**changes))
    interrupted(tmp_path / "b", **changes)
    resumed, equal = run(tmp_path / "b", Patterns(16, 1, 4), config(**changes))
    assert equal.history == outcome.history
    assert steps(tmp_path / "a") == steps(tmp_path / "b")
    assert same(whole, resumed)


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("tensors.pt", truncate),
        ("tensors.pt", flip_a_byte),
        ("run.json", flip_a_byte),
        ("SHA256SUMS", truncate),
        ("run.json", Path.unlink),
    ],
)
def test_a_damaged_newest_falls_back_to_the_one_before(
    tmp_path: Path, caplog, name: str, spoil
) -> None:
    interrupted(tmp_path)
    spoil(tmp_path / "step-000000008" / name)
    assert resumed_at(tmp_path) == 5
    assert "step-000000008 is damaged" in caplog.text
    assert "falling back to the one before" in caplog.text


def test_when_all_are_damaged_the_run_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    for folder in tmp_path.glob("step-*"):
        truncate(folder / "tensors.pt")
    with pytest.raises(CheckpointError, match=r"all 2 checkpoints in .* are damaged; delete"):
        resumed_at(tmp_path)


def test_what_a_killed_process_was_writing_is_removed(tmp_path: Path) -> None:
    interrupted(tmp_path)
    shutil.copytree(tmp_path / "step-000000008", tmp_path / ".step-000000012.partial")
    assert resumed_at(tmp_path) == 9
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("then", "now", "message"),
    [
        ({"data": "aaa"}, {"data": "bbb"}, "data is 'bbb', was 'aaa'"),
        ({"tokenizer": "aaa"}, {"tokenizer": "bbb"}, "tokenizer is 'bbb', was 'aaa'"),
        ({"data": "aaa"}, {}, "data is None, was 'aaa'"),
    ],
)
def test_other_data_or_another_tokenizer_is_refused(
    tmp_path: Path, then: dict[str, str], now: dict[str, str], message: str
) -> None:
    with pytest.raises(Killed):
        run(tmp_path, Patterns(16, 1, 4), config(), die_after(11), identity=then)
    with pytest.raises(CheckpointError, match=f"is of another run: {message}; delete"):
        run(tmp_path, Patterns(16, 1, 4), config(), identity=now)
    run(tmp_path, Patterns(16, 1, 4), config(), identity=then)


def test_another_config_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path)
    with pytest.raises(CheckpointError, match=r"config.optim.lr is 0.02, was 0.01; delete"):
        resumed_at(tmp_path, optim={"lr": 0.02})


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch) -> None:
    """The writer waits for a step after the one it writes; its tensors and curve are of its own step."""
    later = threading.Event()

    def slow(path, tensors, values) -> None:
        assert later.wait(PATIENCE_S)
        write_whole(path, tensors, values)

    def watch(step: int, metrics) -> None:
        if step == 7:
            later.set()
        if step == 10:
            raise Killed

    monkeypatch.setattr(checkpoint, "write_whole", slow)
    with pytest.raises(Killed):
        run(tmp_path, Patterns(16, 1, 4), config(), watch)
    monkeypatch.undo()
    interrupted(tmp_path / "b", last=6)
    one, other = (
        torch.load(folder / "step-000000004" / "tensors.pt", weights_only=True)
        for folder in (tmp_path, tmp_path / "b")
    )
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    curve = read_values(tmp_path / "step-000000004")["history"]
    assert [row["step"] for row in curve] == [1, 2, 3, 4]


def test_what_cannot_be_written_is_one_error_and_the_last_good_one_stays(tmp_path: Path) -> None:
    """The limit on file sizes lies between those of run.json and tensors.pt."""
    interrupted(tmp_path, last=7)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(
            CheckpointError, match=r"step-000000008 could not be written: .*too large"
        ):
            resumed_at(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, former)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000004"]
    assert resumed_at(tmp_path) == 5
