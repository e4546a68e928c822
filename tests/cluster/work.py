"""What tests map over shards: imports so little that a process for each starts at once."""

import os
import time
from pathlib import Path

from tests.waiting import PATIENCE_S, wait_for


def where(n: int) -> tuple[int, str]:
    """The worker whose process this is, and the folder."""
    return os.getppid(), os.getcwd()


def unlucky(path: Path) -> None:
    raise ValueError("unlucky")


def die(n: int) -> None:
    os.kill(os.getpid(), 9)


def mark(path: Path) -> None:
    with path.open("a") as marks:
        marks.write(f"{os.getpid()}\n")


def mark_and_sleep(path: Path) -> str:
    """Leaves the pid of each process that works on it."""
    mark(path)
    time.sleep(2)
    return path.name


def mark_and_stay(path: Path) -> None:
    """The same, for longer than a test waits for anything."""
    mark(path)
    time.sleep(2 * PATIENCE_S)


def meet(folder: Path) -> int:
    """This process, when another one has come to the folder."""
    (folder / str(os.getpid())).touch()
    wait_for(lambda: len(list(folder.iterdir())) >= 2, every_s=0.01)
    return os.getpid()
