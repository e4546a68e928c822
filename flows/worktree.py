"""One run = one git worktree, one branch `run/<name>`; all share the checkout's DVC cache.

Runs with different params go side by side, and nobody's checkout is dirtied. A worktree
lies under `.llm/worktrees`. It is removed when its run has succeeded: what the run made
is in the cache, and its params, dvc.lock and metrics are commits on the branch
(`git checkout run/<name> && dvc checkout` brings everything back). After a failure it
stays, with the work in progress, so that retrying the run continues in it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llm.errors import ConfigError
from llm.git import git, is_committed, succeeds
from llm.worktree import remove_worktree, share_cache, using_cache

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

    def discard(self, root: Path) -> None:
        """Remove the folder and the branch: a run that was refused before any work leaves nothing."""
        remove_worktree(root, self.folder)
        git(root, "branch", "--delete", "--force", self.branch)


@contextmanager
def worktree(root: Path, name: str, run_id: str, start: str = "HEAD") -> Iterator[Worktree]:
    """The worktree of run `name`: new at the commit `start`, or the one that an earlier attempt left."""
    if not is_committed(root):
        raise ConfigError(
            f"{root} is not a git repository with a commit; a run builds what is committed: "
            "`git add . && git commit` first"
        )
    name = (
        re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "run"
    )  # fit for a branch and a folder
    with using_cache(root):
        tree = _open_worktree(root, name, run_id, start)
        yield tree
        remove_worktree(root, tree.folder)


def _open_worktree(root: Path, name: str, run_id: str, start: str) -> Worktree:
    folder = root / ".llm" / "worktrees" / f"{name}-{run_id[:8]}"
    branch = f"run/{name}"
    if folder.exists():
        branch = git(folder, "branch", "--show-current")
    else:
        git(root, "worktree", "prune")
        if git(root, "branch", "--list", branch):  # names are drawn at random, and recur
            branch = f"{branch}-{run_id[:8]}"
        git(root, "worktree", "add", "--quiet", "-b", branch, str(folder), start)
    share_cache(root, folder)
    return Worktree(folder, branch)


def has_identity(folder: Path) -> bool:
    """Whether git knows who commits."""
    return succeeds(folder, "config", "user.email")
