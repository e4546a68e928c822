"""One run = one git worktree, one branch `run/<name>`; all share the checkout's DVC cache.

Runs with different params go side by side, and nobody's checkout is dirtied. A worktree
lies under `.llm/worktrees`. It is removed when its run has succeeded: what the run made
is in the cache, and its params, dvc.lock and metrics are commits on the branch
(`git checkout run/<name> && dvc checkout` brings everything back). After a failure it
stays, with the work in progress, so that retrying the run continues in it.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from llm.errors import ConfigError

IDENTITY = ("-c", "user.name=llm flow", "-c", "user.email=flow@localhost")


@dataclass(frozen=True)
class Worktree:
    """A run's own checkout."""

    folder: Path
    branch: str

    def commit(self, message: str) -> bool:
        """Commit every change; False when there is none."""
        git(self.folder, "add", "--all")
        if not git(self.folder, "status", "--porcelain"):
            return False
        identity = () if has_identity(self.folder) else IDENTITY
        git(self.folder, *identity, "commit", "--quiet", "--no-verify", "--message", message)
        return True


@contextmanager
def worktree(root: Path, name: str, run_id: str) -> Iterator[Worktree]:
    """The worktree of run `name`: new at HEAD, or the one that an earlier attempt left."""
    if not is_committed(root):
        raise ConfigError(
            f"{root} is not a git repository with a commit; a run builds what is committed: "
            "`git add . && git commit` first"
        )
    name = (
        re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    )  # fit for a branch and a folder
    folder = root / ".llm" / "worktrees" / f"{name}-{run_id[:8]}"
    branch = f"run/{name}"
    if folder.exists():
        branch = git(folder, "branch", "--show-current")
    else:
        git(root, "worktree", "prune")
        if git(root, "branch", "--list", branch):  # names are drawn at random, and recur
            branch = f"{branch}-{run_id[:8]}"
        git(root, "worktree", "add", "--quiet", "-b", branch, str(folder), "HEAD")
    _share_cache(root, folder)
    yield Worktree(folder, branch)
    git(root, "worktree", "remove", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)  # git leaves what it ignores


def is_committed(root: Path) -> bool:
    """Whether `root` is a git repository with at least one commit."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    return subprocess.run(command, cwd=root, capture_output=True, check=False).returncode == 0


def has_identity(folder: Path) -> bool:
    """Whether git knows who commits."""
    command = ["git", "config", "user.email"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def git(folder: Path, *args: str) -> str:
    """Output of a git command in `folder`; ConfigError with its message when it fails."""
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"`git {' '.join(args)}` failed in {folder}: {done.stderr.strip()}")
    return done.stdout.strip()


def _share_cache(root: Path, folder: Path) -> None:
    """Point the worktree's DVC at the checkout's cache, in a file that git ignores."""
    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
    with Repo(str(folder)) as repo:
        config: Any = repo.config  # DVC has no types for it
        with config.edit("local") as local:
            local["cache"]["dir"] = cache
