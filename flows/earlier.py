"""What earlier runs found out: their dvc.lock, metrics and timings, for `flows.restore` to check."""

import subprocess
from pathlib import Path

from flows.worktree import Worktree, git
from llm.config.base import load_section
from llm.config.paths import Paths

FOLDER = Path(".llm") / "earlier"


def earlier_results(root: Path, tree: Worktree) -> list[Path]:
    """Folders with a dvc.lock: of the last run with the same params.yaml, and the checkout's own."""
    found = []
    branch = _last_run_alike(root, tree)
    if branch is not None:
        _extract(branch, tree)
        found.append(tree.folder / FOLDER)
    if (root / "dvc.lock").exists():
        found.append(root)
    return found


def _last_run_alike(root: Path, tree: Worktree) -> str | None:
    """The newest branch of a run that has a dvc.lock and this run's params.yaml."""
    own = git(tree.folder, "hash-object", "params.yaml")
    listing = git(
        root, "for-each-ref", "--sort=-committerdate", "--format=%(refname)", "refs/heads/run/"
    )
    branches = [name for name in listing.splitlines() if name != f"refs/heads/{tree.branch}"]
    asked = "".join(f"{name}:params.yaml\n{name}:dvc.lock\n" for name in branches)
    done = subprocess.run(
        ["git", "cat-file", "--batch-check=%(objectname)"],
        cwd=root,
        input=asked,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = done.stdout.splitlines()  # `… missing` where there is no such file
    for i, branch in enumerate(branches):
        params, lock = answers[2 * i : 2 * i + 2]
        if params == own and not lock.endswith("missing"):
            return branch
    return None


def _extract(branch: str, tree: Worktree) -> None:
    paths = load_section(Paths, "paths", tree.folder / "params.yaml")
    wanted = ["dvc.lock", paths.metrics, paths.timings]
    there = git(tree.folder, "ls-tree", "--name-only", branch, "--", *wanted).splitlines()
    target = tree.folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    archive = subprocess.Popen(
        ["git", "archive", branch, "--", *there], cwd=tree.folder, stdout=subprocess.PIPE
    )
    with archive:
        subprocess.run(["tar", "-x"], cwd=target, stdin=archive.stdout, check=True)
