"""Memory of a process and of all that it started, looked at from outside."""

import time
from collections.abc import Callable
from contextlib import suppress

import psutil

EVERY_S = 0.05


def resident_mib(pid: int) -> float:
    """The sum of their resident sets; what several share counts for each."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for process in (own := psutil.Process(pid), *own.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 2**20


def peak_mib(pid: int, runs: Callable[[], bool]) -> float:
    """The largest sum that was seen while the process runs."""
    peak = 0.0
    while runs():
        peak = max(peak, resident_mib(pid))
        time.sleep(EVERY_S)
    return peak
