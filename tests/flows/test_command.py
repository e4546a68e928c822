"""A command's lines come as they are written, and nothing of it is left, however it ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from flows.command import CommandError, end_group, end_live, group_members, run_command
from llm.tracking.process_id import ProcessId
from tests.waiting import PATIENCE_S, wait_for

TIED = Path(__file__).parents[2] / "llm" / "tied.py"
SPAWN = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True);"


def test_lines_come_while_the_command_runs(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    code = (
        "import os, time; print('first', flush=True)\n"
        "while os.path.exists('go'): time.sleep(0.05)\n"
        "print(os.environ['WORD'])"
    )
    lines: list[str] = []

    def take(line: str) -> None:
        lines.append(line)
        (tmp_path / "go").unlink(missing_ok=True)  # without `first` it would never end

    run_command(
        [sys.executable, "-c", code], tmp_path, {"WORD": "last"}, take, timeout_s=PATIENCE_S
    )
    assert lines == ["first", "last"]


def test_a_failure_has_the_exit_code_and_the_last_lines(tmp_path: Path) -> None:
    code = "import sys; print('no such band', file=sys.stderr); sys.exit(3)"
    with pytest.raises(CommandError, match=r"(?s)failed \(exit 3\).*no such band"):
        run_command([sys.executable, "-c", code], tmp_path, {}, _ignore)


def test_a_timeout_ends_the_command_and_its_children(tmp_path: Path) -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", SPAWN + "import time; time.sleep(600)"]
    timeout_s = 1
    while not lines and timeout_s < PATIENCE_S:  # its child may not be there in time
        with pytest.raises(CommandError, match=rf"did not end within {timeout_s} s"):
            run_command(command, tmp_path, {}, lines.append, timeout_s)
        timeout_s *= 2
    assert not ProcessId.of(int(lines[0])).born


def test_children_of_a_command_that_ended_well_are_ended(tmp_path: Path) -> None:
    lines: list[str] = []
    run_command([sys.executable, "-c", SPAWN], tmp_path, {}, lines.append)
    assert not ProcessId.of(int(lines[0])).born


def test_commands_in_other_threads_can_be_ended(tmp_path: Path) -> None:
    lines: list[str] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            run_command(["sh", "-c", "echo $$; sleep 600"], tmp_path, {}, lines.append)
        except CommandError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(lambda: bool(lines))
    end_live()
    thread.join(timeout=PATIENCE_S)
    assert not thread.is_alive()
    assert "was ended by SIGTERM" in str(errors[0])
    assert not group_members(int(lines[0]))


def test_what_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True);"
    process = subprocess.Popen(
        [sys.executable, "-c", code + "time.sleep(600)"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    end_group(process.pid, grace_s=0.2)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
def test_a_tied_command_ends_with_the_process_that_started_it() -> None:
    code = (
        "import subprocess, sys, time\n"
        f"print(subprocess.Popen([sys.executable, {str(TIED)!r}, 'sleep', '600']).pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(lambda: psutil.Process(child).name() == "sleep")
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not ProcessId.of(child).born)


def _ignore(line: str) -> None:
    """Nobody reads it."""
