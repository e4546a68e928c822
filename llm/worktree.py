"""Git worktrees that share one DVC cache, and who may use that cache when.

Whoever writes to the cache from a worktree of its own (a pipeline run, a reproduction)
does so inside `using_cache`; any number may at once. `llm gc` frees inside
`alone_with_cache`, which nobody else then enters.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.errors import ConfigError
from llm.git import git_bytes

LOCK = Path(".llm") / "locks" / "cache.lock"
SHARED = Path(".llm") / "resume"  # work in progress, for whichever worktree goes on with it


@dataclass(frozen=True)
class Checkout:
    """One of git's worktrees, the first of which is the repository's own folder."""

    folder: Path
    commit: str  # "" before the first
    branch: str | None  # None when detached


def checkouts(root: Path) -> list[Checkout]:
    """Every worktree of the repository whose folder is there."""
    listed = git_bytes(root, "worktree", "list", "--porcelain", "-z").decode(
        errors="surrogateescape"
    )
    found = []
    for block in listed.split("\0\0"):
        lines = [line.partition(" ") for line in block.split("\0") if line]
        fields = {key: value for key, _, value in lines}
        folder = Path(fields.get("worktree", "/nowhere"))
        if "bare" not in fields and folder.is_dir():
            branch = fields.get("branch", "").removeprefix("refs/heads/") or None
            commit = fields.get("HEAD", "")
            found.append(Checkout(folder, commit if commit.strip("0") else "", branch))
    return found


def cache_folder(root: Path) -> Path:
    """Where DVC keeps objects for the checkout in `root`; ConfigError when it is no DVC project."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(root)) as repo:
            return Path(repo.cache.local_cache_dir)
    except DvcException as error:
        raise ConfigError(f"{root}: {error}; run from the project's root") from None


def share_cache(root: Path, folder: Path) -> None:
    """Give the checkout in `folder` the cache and the remotes of `root`, in a file that git ignores.

    The remotes are those of the repository and of its local settings; a relative address
    is relative to the folder that names it, and credentials may be in no commit.
    """
    from dvc.config import merge
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        cache = repo.cache.local_cache_dir
        levels: list[Any] = [repo.config.read(level) for level in ("repo", "local")]
    with Repo(str(folder)) as repo:
        config: Any = repo.config  # DVC has no types for it
        with config.edit("local") as local:
            for level in levels:
                merge(local["remote"], level["remote"])
                if "remote" in level["core"]:
                    local["core"]["remote"] = level["core"]["remote"]
            local["cache"]["dir"] = cache
    (folder / ".dvc" / "config.local").chmod(0o600)


def remove_worktree(root: Path, folder: Path) -> None:
    """Remove a worktree and everything in it; what is half removed already goes as well."""
    if any(each.folder == folder.resolve() for each in checkouts(root)):
        git_bytes(root, "worktree", "remove", "--force", "--force", str(folder))
    shutil.rmtree(folder, ignore_errors=True)  # git leaves what it ignores
    git_bytes(root, "worktree", "prune")


@contextmanager
def using_cache(root: Path) -> Iterator[None]:
    """Nothing is freed from the cache of `root` during the body; waits for what is being freed."""
    with _open(root) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@contextmanager
def alone_with_cache(root: Path, *, wait: bool) -> Iterator[None]:
    """No run begins during the body; ConfigError when one is going on, unless told to `wait`."""
    with _open(root) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ConfigError(
                "a run is using the DVC cache, so nothing is freed; try again when it has ended, "
                "or give --wait"
            ) from None
        yield


def _open(root: Path):
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a")
