"""One stage as a process: its command's exit code comes through, and the same work is done once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import git
from tests.waiting import PATIENCE_S, wait_for

COUNTED = f"""
import os, time
from pathlib import Path
with open(os.environ["BEGUN"], "a") as file:
    file.write("once ")
deadline = time.monotonic() + {PATIENCE_S}
while not Path(os.environ["GO"]).exists():
    assert time.monotonic() < deadline
    time.sleep(0.05)
Path("out").write_text("made")
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A project of one stage, `make`, whose command is `python make.py`."""
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: exec python make.py\n    deps: [make.py]\n    outs: [out]\n"
    )
    git(folder, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import sys; sys.exit(1)", 1),
        ("import sys; sys.exit(75)", os.EX_TEMPFAIL),
        ("import os; os.kill(os.getpid(), 9)", 128 + signal.SIGKILL),
        ("pass", 255),  # writes no out: DVC's own complaint
    ],
)
def test_the_exit_code_is_that_of_the_command(small: Path, code: str, expected: int) -> None:
    (small / "make.py").write_text(code)
    done = _repro(small)
    output = done.communicate(timeout=PATIENCE_S)[0]
    assert done.returncode == expected
    assert "ERROR: failed to reproduce 'make'" in output


def test_two_at_once_with_the_same_content_compute_it_once(small: Path, tmp_path: Path) -> None:
    (small / "make.py").write_text(COUNTED)
    git(small, "add", "--all")
    git(small, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    other = tmp_path / "other"
    git(small, "worktree", "add", "--quiet", str(other))
    cache = ["cache", "dir", "--local", str(small / ".dvc" / "cache")]
    subprocess.run([sys.executable, "-m", "dvc", *cache], cwd=other, check=True)
    begun, settings = tmp_path / "begun", _settings(tmp_path)
    first = _repro(small, settings | {"LLM_RUN_NAME": "calm-hare"})
    wait_for(begun.exists)
    second = _repro(other, settings | {"LLM_RUN_NAME": "late-fox"})
    assert second.stdout is not None
    said = iter(second.stdout)
    assert any("waits: calm-hare makes the same at this moment" in line for line in said)
    (tmp_path / "go").touch()
    assert any("is cached" in line for line in said)
    assert [each.wait(timeout=PATIENCE_S) for each in (first, second)] == [0, 0]
    assert begun.read_text() == "once "
    assert (other / "out").read_text() == "made"
    assert not list((tmp_path / "locks").iterdir())

    third = _repro(other, settings, "--force")
    assert third.wait(timeout=PATIENCE_S) == 0
    assert begun.read_text() == "once once "


def test_one_that_was_killed_holds_nobody_up(small: Path, tmp_path: Path) -> None:
    (small / "make.py").write_text(COUNTED)
    begun, settings = tmp_path / "begun", _settings(tmp_path)
    first = _repro(small, settings)
    wait_for(lambda: begun.exists() and begun.read_text() == "once ")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    (tmp_path / "go").touch()
    assert _repro(small, settings).wait(timeout=PATIENCE_S) == 0
    assert begun.read_text() == "once once "


def _settings(folder: Path) -> dict[str, str]:
    """COUNTED counts in `begun`, and ends once there is `go`."""
    return {
        "BEGUN": str(folder / "begun"),
        "GO": str(folder / "go"),
        "LLM_STAGE_LOCKS": str(folder / "locks"),
    }


def _repro(
    folder: Path, settings: dict[str, str] | None = None, *options: str
) -> subprocess.Popen[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        [sys.executable, "-m", "flows.repro", "make", *options],
        cwd=folder,
        env={**os.environ, "PATH": path, **(settings or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
