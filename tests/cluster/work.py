"""What tests map over shards: imports so little that a process for each starts at once."""

import os
import time
from pathlib import Path


def where(n: int) -> tuple[int, str]:
    """The worker whose process this is, and the folder."""
    return os.getppid(), os.getcwd()


def unlucky(path: Path) -> None:
    raise ValueError("unlucky")


def die(n: int) -> None:
    os.kill(os.getpid(), 9)


def mark_and_sleep(path: Path) -> str:
    """Leaves the pid of each process that works on it."""
    with path.open("a") as marks:
        marks.write(f"{os.getpid()}\n")
    time.sleep(2)
    return path.name


def meet(folder: Path) -> int:
    """This process, when another one has come to the folder."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2:
        assert time.monotonic() < deadline, "no other process came"
        time.sleep(0.01)
    return os.getpid()
