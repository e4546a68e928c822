"""A worktree goes when its run has ended and nothing in it is a person's; work in progress when it is stale."""

import signal
import subprocess
import sys
import time
from contextlib import chdir, suppress
from pathlib import Path

import pytest

from flows.alive import alive
from flows.worktree import worktree
from llm.config.params import load_params
from llm.process import work_folder
from llm.registry.clean.worktrees import work_items, worktree_items
from llm.worktree import checkouts, remove_worktree
from tests.conftest import ROOT
from tests.registry.project import commit, git, repro, set_params
from tests.waiting import wait_for

RUN_ID = "0123456789abcdef"
KILLED = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
from flows.alive import alive

with alive(Path(sys.argv[1]), sys.argv[2]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Stopped(Exception):
    """How the run fails."""


def failed_run(project: Path, name: str = "calm-hare") -> Path:
    """The worktree that a run leaves when it fails."""
    folder = project
    with suppress(Stopped), worktree(project, name, RUN_ID) as tree:
        folder = tree.folder
        repro(folder)
        raise Stopped
    return folder


def reasons(project: Path, older_than_s: float = 0.0) -> dict[str, str]:
    """Name to why it stays; `free` for what goes."""
    freeable, kept = worktree_items(project, time.time() - older_than_s)
    return {each.name: "free" for each in freeable} | {each.name: each.why for each in kept}


def test_what_a_failed_run_left_goes_and_its_branch_stays(project: Path) -> None:
    folder = failed_run(project)
    assert reasons(project) == {folder.name: "free"}
    assert "younger" in reasons(project, older_than_s=3600.0)[folder.name]
    remove_worktree(project, folder)
    assert not folder.exists()
    assert [each.folder for each in checkouts(project)] == [project]
    assert git(project, "branch", "--list", "run/calm-hare")


def test_a_worktree_in_which_a_process_works_stays(project: Path) -> None:
    folder = failed_run(project)
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            wait_for(lambda: f"process {process.pid}" in reasons(project)[folder.name])
        finally:
            process.kill()
    with alive(project, RUN_ID):
        assert reasons(project)[folder.name] == f"flow run {RUN_ID} works in it"
    assert reasons(project)[folder.name] == "free"


@pytest.mark.parametrize("file", ["stage.py", "notes.txt"])
def test_a_change_of_a_person_stays(project: Path, file: str) -> None:
    folder = failed_run(project)
    (folder / file).write_text("a person's")
    assert reasons(project)[folder.name] == f"has a change that no commit has: {file}"


def test_a_commit_that_is_on_no_branch_stays(project: Path) -> None:
    folder = failed_run(project)
    git(folder, "checkout", "--quiet", "--detach")
    made = commit(folder, "on no branch")
    assert made[:12] in reasons(project)[folder.name]
    git(project, "branch", "kept", made)
    assert reasons(project)[folder.name] == "free"


def test_a_folder_that_git_has_forgotten_goes(project: Path) -> None:
    half = project / ".llm" / "worktrees" / "half-removed"
    half.mkdir(parents=True)
    (half / "data").write_text("left")
    assert reasons(project) == {half.name: "free"}
    remove_worktree(project, half)
    assert not half.exists()


def test_work_that_the_next_run_continues_stays_and_older_work_goes(project: Path) -> None:
    repro(project)
    params = load_params(project / "params.yaml")
    current = work_folder("sft", params.paths, {"sft": params.sft})
    for name in (current.name, "sft-0000000000000000", "nonsense-1"):
        (project / ".llm" / "work" / name).mkdir(parents=True)
    freeable, kept = work_items(project, [], time.time())
    assert {item.name for item in freeable} == {"sft-0000000000000000", "nonsense-1"}
    assert [(item.name, item.why) for item in kept] == [
        (current.name, "the next run of sft continues it")
    ]


def test_work_that_cannot_be_judged_stays(project: Path) -> None:
    (project / ".llm" / "work" / "sft-0000000000000000").mkdir(parents=True)
    freeable, kept = work_items(project, [], time.time())  # nothing has run: no data/gather
    assert not freeable
    assert "data/gather does not exist" in kept[0].why
    (project / "params.yaml").write_text("nonsense")
    assert "cannot be judged" in work_items(project, [], time.time())[1][0].why


def test_the_checkpoint_of_a_run_that_may_be_retried_stays_with_its_worktree(project: Path) -> None:
    folder = failed_run(project)
    set_params(folder, documents=2, seed=5)
    with chdir(folder):
        params = load_params(Path("params.yaml"))
        name = work_folder("sft", params.paths, {"sft": params.sft}).name
    (project / ".llm" / "resume" / name).mkdir(parents=True)
    freeable, kept = work_items(project, [folder], time.time())
    assert ([*freeable], [item.name for item in kept]) == ([], [name])
    freeable, kept = work_items(project, [], time.time())
    assert ([item.name for item in freeable], [*kept]) == ([name], [])


def test_a_killed_owner_is_no_longer_alive(project: Path) -> None:
    folder = failed_run(project)
    done = subprocess.run([sys.executable, "-c", KILLED, str(project), RUN_ID], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (project / ".llm" / "runs" / RUN_ID).exists()
    assert reasons(project)[folder.name] == "free"
