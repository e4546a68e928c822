"""Git as the project uses it: one call, its message when it fails, and objects read in bulk."""

import logging
import subprocess
from collections.abc import Iterable
from pathlib import Path

from llm.errors import ConfigError

KEPT = "refs/llm/"  # a ref for each registered version's commit

logger = logging.getLogger(__name__)


def git(folder: Path, *args: str) -> str:
    """Output of a git command in `folder`; ConfigError with its message when it fails."""
    return git_bytes(folder, *args).decode(errors="replace").strip()


def git_bytes(folder: Path, *args: str, given: bytes = b"") -> bytes:
    """The same as bytes, nothing stripped; `given` is the command's input."""
    done = subprocess.run(["git", *args], cwd=folder, input=given, capture_output=True, check=False)
    if done.returncode:
        message = done.stderr.decode(errors="replace").strip()
        raise ConfigError(f"`git {' '.join(args)}` failed in {folder}: {message}")
    return done.stdout


def succeeds(folder: Path, *args: str) -> bool:
    """Whether a git command exits with 0."""
    command = ["git", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def is_committed(root: Path) -> bool:
    """Whether `root` is a git repository with at least one commit."""
    return succeeds(root, "rev-parse", "--verify", "--quiet", "HEAD")


def has_commit(root: Path, commit: str) -> bool:
    """Whether the repository holds the commit, on a branch or not."""
    return succeeds(root, "cat-file", "-e", f"{commit}^{{commit}}")


def keep_commit(folder: Path, name: str) -> None:
    """Have git keep the present commit, whatever becomes of its branch, as `refs/llm/NAME`."""
    if is_committed(folder) and not succeeds(folder, "update-ref", f"{KEPT}{name}", "HEAD"):
        logger.warning("git takes no ref %s%s: the commit is kept by its branch alone", KEPT, name)


def tree(folder: Path, commit: str, *, whole: bool = False) -> dict[str, str]:
    """Path to object id of every file of the commit below `folder`, or of the `whole` repository."""
    options = ["--full-tree"] if whole else []
    listed = git_bytes(folder, "ls-tree", "-r", "-z", *options, commit).decode(
        errors="surrogateescape"
    )
    found = {}
    for line in filter(None, listed.split("\0")):
        description, path = line.split("\t", 1)
        _, kind, object_id = description.split()
        if kind == "blob":  # not a submodule
            found[path] = object_id
    return found


def blobs(folder: Path, object_ids: Iterable[str]) -> dict[str, bytes]:
    """The content of each object, by one process."""
    wanted = list(dict.fromkeys(object_ids))
    asked = "".join(f"{object_id}\n" for object_id in wanted).encode()
    answer = git_bytes(folder, "cat-file", "--batch", given=asked)
    found, at = {}, 0
    for object_id in wanted:
        end = answer.index(b"\n", at)
        header = answer[at:end].split()
        if len(header) != 3:  # "ID missing"
            raise ConfigError(f"{folder}: git lacks the object {object_id}; `git fsck` says more")
        size = int(header[2])
        found[object_id] = answer[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
    return found
