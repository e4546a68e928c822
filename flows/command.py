"""A command in a process group of its own: its lines as they come, and nothing left behind.

Every way out of `run_command` (end, failure, timeout, cancellation) ends the whole group.
Python raises a cancellation in the main thread only, so commands that run in other
threads are ended from there by `end_live`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from llm import tied
from llm.tracking.process_id import ProcessId

# From SIGTERM to SIGKILL, so that 10 s after a cancellation, which takes a few to arrive, nothing is
# left. Training saves in it, or loses the steps since its last checkpoint: no file is half-written.
GRACE_S = 5.0
TAIL_LINES = 20

_live: set[int] = set()
_ended: set[int] = set()  # those of `_live` that we were told to end
_live_lock = threading.Lock()


class CommandError(Exception):
    """A command that did not end well; the message has its last lines."""

    def __init__(self, message: str, code: int, *, ended_by_us: bool = False) -> None:
        super().__init__(message)
        self.code = code  # its exit code; negative for the signal that ended it; 0: did not begin
        self.ended_by_us = ended_by_us  # by a timeout or a cancellation

    @property
    def signal(self) -> int | None:
        """The signal that ended the command, or what it waited for, as shells report that."""
        number = -self.code if self.code < 0 else self.code - 128
        return number if 0 < number < signal.NSIG else None


def run_command(
    command: list[str],
    folder: Path,
    environment: Mapping[str, str],
    on_line: Callable[[str], None],
    timeout_s: float | None = None,
    ending: threading.Event | None = None,
) -> None:
    """Run in `folder`, hand on each line of output; CommandError unless it exits with 0.

    Once `ending` is set no command begins, so that `end_live` after it ends them all.
    """
    with _live_lock:
        if ending is not None and ending.is_set():
            raise CommandError(f"`{' '.join(command)}` did not begin", 0, ended_by_us=True)
        process = subprocess.Popen(
            [sys.executable, str(tied.__file__), *command],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        _live.add(process.pid)
    assert process.stdout is not None
    expired = threading.Event()
    timer = threading.Timer(timeout_s or 0, _expire, [process.pid, expired])
    # a child that outlives the command would hold the pipe open, and us reading
    ender = threading.Thread(target=_end_rest, args=[process], daemon=True)
    try:
        if timeout_s is not None:
            timer.start()
        ender.start()
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        for line in process.stdout:
            tail.append(line.rstrip())
            on_line(tail[-1])
        code = process.wait()
    finally:
        timer.cancel()
        end_group(process.pid)
        process.stdout.close()
        ender.join()
        with _live_lock:
            _live.discard(process.pid)
            ended = process.pid in _ended
            _ended.discard(process.pid)
    if expired.is_set():
        message = f"`{' '.join(command)}` did not end within {timeout_s:g} s; ended"
        raise CommandError(message, code, ended_by_us=True)
    if code:
        raise CommandError(_describe(command, code, tail), code, ended_by_us=ended)


def end_live() -> None:
    """End every command that runs in this process, in whichever thread."""
    with _live_lock:
        groups = list(_live)
        _ended.update(groups)
    end_groups(groups)


def end_group(group: int, grace_s: float = GRACE_S) -> None:
    """SIGTERM to a process group, and SIGKILL to what is left of it after `grace_s` seconds."""
    end_groups([group], grace_s)


def end_groups(groups: list[int], grace_s: float = GRACE_S) -> None:
    """`end_group` of all at the same time."""
    left = [group for group in groups if group_members(group)]
    for group in left:
        _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    while left := [group for group in left if group_members(group)]:
        if time.monotonic() > deadline:
            for group in left:
                _signal_group(group, signal.SIGKILL)
        time.sleep(0.05)


def group_members(group: int) -> list[int]:
    """The processes of a group; zombies do not count."""
    return [pid for pid in psutil.pids() if _group_of(pid) == group and ProcessId.of(pid).born]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _end_rest(process: subprocess.Popen[str]) -> None:
    process.wait()
    end_group(process.pid)


def _expire(group: int, expired: threading.Event) -> None:
    expired.set()
    end_group(group)


def _describe(command: list[str], code: int, tail: deque[str]) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"failed (exit {code})"
    return "\n".join([f"`{' '.join(command)}` {how}; its last lines:", *tail])
