"""What tests map over shards: imports so little that a process for each starts at once."""

import os
from pathlib import Path

from tests.waiting import PATIENCE_S, wait_for


def where(folder: Path) -> tuple[int, str]:
    """The worker whose process this is, when another one has come to the folder; where it works."""
    return _meet(folder, os.getppid()), os.getcwd()


def unlucky(path: Path) -> None:
    raise ValueError("unlucky")


def die(n: int) -> None:
    os.kill(os.getpid(), 9)


def mark_and_wait(path: Path) -> str:
    """Leaves the pid of each process that works on it, until `go` lies beside it; the first is done at once."""
    with path.open("a") as marks:
        marks.write(f"{os.getpid()}\n")
    if path.name != "00000":
        wait_for((path.parent / "go").exists, 2 * PATIENCE_S)
    return path.name


def meet(folder: Path) -> int:
    """This process, when another one has come to the folder."""
    return _meet(folder, os.getpid())


def _meet(folder: Path, pid: int) -> int:
    (folder / str(pid)).touch()
    wait_for(lambda: len(list(folder.iterdir())) >= 2, every_s=0.01)
    return pid
