"""What of `make up` runs, written down in `.llm/up.json`, so that it can be ended whoever was killed."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from flows.command import end_group, end_groups
from llm.files import read_json, write_json
from llm.tracking.process_id import ProcessId

STATE = Path(".llm") / "up.json"
LOCK = Path(".llm") / "up.lock"
SERVER_GRACE_S = 20.0  # from SIGTERM to SIGKILL


def running_state(root: Path) -> dict[str, Any] | None:
    """up.json's content, if the `make up` that wrote it still runs."""
    path = root / STATE
    if not path.exists():
        return None
    state = read_json(path)
    return state if ProcessId.parse(state["up"]).is_alive() else None


def write_state(root: Path, addresses: dict[str, str], processes: dict[str, int]) -> None:
    """Write down who we are, where what answers, and every process group, the first to end first."""
    started = {name: str(ProcessId.of(pid)) for name, pid in processes.items()}
    up = str(ProcessId.current())
    write_json(root / STATE, {"up": up, **addresses, "processes": started})


@contextmanager
def only_one(root: Path) -> Iterator[bool]:
    """Whether no other `make up` is at work in `root`; True holds its lock for the body."""
    path = root / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def end_all(root: Path) -> int:
    """End every process group that up.json names, and what they started; returns how many."""
    path = root / STATE
    if not path.exists():
        return 0
    processes = [ProcessId.parse(text) for text in read_json(path)["processes"].values()]
    alive = [process for process in processes if process.is_alive()]
    below = [child for process in alive for child in _descendants(process.pid)]
    for process in alive:
        end_group(process.pid, SERVER_GRACE_S)
    # flow runs and stages are in sessions of their own
    end_groups([child.pid for child in below if child.is_alive()])
    path.unlink()
    return len(alive)


def _descendants(pid: int) -> list[ProcessId]:
    try:
        return [ProcessId.of(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
