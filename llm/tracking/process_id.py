"""Which process: its pid and when it began, so that a reused pid is not taken for it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine; `born` is 0 for one that was already gone."""

    pid: int
    born: int  # clock ticks since boot on Linux, milliseconds since 1970 elsewhere

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, _born(pid))

    @classmethod
    def current(cls) -> Self:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of str()."""
        pid, born = text.split(".")
        return cls(int(pid), int(born))

    def __str__(self) -> str:
        return f"{self.pid}.{self.born}"

    def is_alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return self.born != 0 and _born(self.pid) == self.born


def dvc_ancestor() -> ProcessId | None:
    """The outermost `dvc` process that this process runs under."""
    found = None
    for parent in psutil.Process().parents():
        try:
            command = [Path(part).name for part in parent.cmdline()[:3]]
        except psutil.Error:
            continue
        if "dvc" in command:
            found = ProcessId.of(parent.pid)
    return found


def _born(pid: int) -> int:
    """0 when there is no such process, or only its zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0
        return 0 if fields[0] in "ZX" else int(fields[19])  # proc(5): state, starttime
    try:
        process = psutil.Process(pid)
        gone = process.status() == psutil.STATUS_ZOMBIE
        return 0 if gone else int(process.create_time() * 1000)
    except psutil.Error:
        return 0
