"""A stage is tried again where that can help, and nothing begins once the run is ending."""

import os
import signal
import threading
from pathlib import Path

import pytest
from prefect.logging import disable_run_logger

from flows import stage
from flows.artifacts import Artifacts
from flows.command import CommandError
from flows.progress import Progress
from flows.stage import RETRY_DELAYS_S, Run, Workplace, retry_delays, run_stage
from tests.waiting import PATIENCE_S, wait_for


class SilentProgress(Progress):
    def __init__(self) -> None:
        self._working, self._done, self._lock = [], set(), threading.Lock()

    def _show(self) -> None:
        pass


class SilentArtifacts(Artifacts):
    def __init__(self) -> None:
        pass

    def publish(self, stage: str) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "attempts"),
    [
        (CommandError("a person's error", 1), 0),
        (CommandError("DVC's own", 255), 0),
        (CommandError("a server was away", os.EX_TEMPFAIL), len(RETRY_DELAYS_S)),
        (CommandError("killed", -signal.SIGKILL), 1),
        (CommandError("the command was killed", 128 + signal.SIGKILL), 1),
        (CommandError("a timeout", -signal.SIGTERM, ended_by_us=True), 0),
        (CommandError("a timeout that saved", 143, ended_by_us=True), 0),
    ],
)
def test_only_what_may_go_well_later_is_tried_again(error: CommandError, attempts: int) -> None:
    assert len(retry_delays(error)) == attempts


@pytest.mark.parametrize(
    ("code", "count"), [("sys.exit(75)", 3), ("os.kill(os.getpid(), 9)", 2), ("sys.exit(1)", 1)]
)
def test_attempts_are_counted(run: Run, monkeypatch, code: str, count: int) -> None:
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", (0.01, 0.01))
    monkeypatch.setattr(stage, "KILLED_DELAYS_S", (0.01,))
    _module(run, code)
    with disable_run_logger(), pytest.raises(CommandError):
        run_stage.fn("gather", run)
    assert (run.workplace.folder / "attempts").read_text() == "x" * count


def test_a_server_that_comes_back_is_enough(run: Run, monkeypatch) -> None:
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", (0.01, 0.01))
    _module(run, "sys.exit(75 if len(attempts) < 2 else 0)")
    with disable_run_logger():
        run_stage.fn("gather", run)
    assert (run.workplace.folder / "attempts").read_text() == "xx"


def test_an_ending_run_waits_for_no_further_attempt_and_begins_nothing(
    run: Run, monkeypatch
) -> None:
    monkeypatch.setattr(stage, "RETRY_DELAYS_S", (2 * PATIENCE_S,))
    _module(run, "sys.exit(75)")
    attempts = run.workplace.folder / "attempts"

    def end() -> None:
        wait_for(attempts.exists)
        run.workplace.ending.set()

    thread = threading.Thread(target=end)
    thread.start()
    with disable_run_logger(), pytest.raises(CommandError, match="exit 75"):
        run_stage.fn("gather", run)
    with disable_run_logger(), pytest.raises(CommandError, match="did not begin"):
        run_stage.fn("gather", run)
    assert attempts.read_text() == "x"
    thread.join()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    workplace = Workplace(tmp_path, {"PYTHONPATH": str(tmp_path)})
    return Run("", workplace, None, {}, frozenset(), SilentProgress(), SilentArtifacts())


def _module(run: Run, code: str) -> None:
    """Put something else in the place of flows.repro."""
    folder = run.workplace.folder / "flows"
    folder.mkdir()
    text = (
        "import os, sys\n"
        "with open('attempts', 'a+') as file:\n"
        "    file.write('x')\n"
        "    file.seek(0)\n"
        "    attempts = file.read()\n"
    )
    (folder / "repro.py").write_text(text + code)
