"""The most memory that a stage's processes have held."""

import platform
import resource
from collections.abc import Iterable
from pathlib import Path

KIB_PER_MIB = 1024

_workers_mib = [0.0]  # of each map's workers so far, all together


def note_workers(pids: Iterable[int]) -> None:
    """Count workers that are about to end, on Linux."""
    _workers_mib.append(sum(_linux_peak_mib(str(pid)) for pid in pids))


def peak_mib() -> float:
    """The peak of this process and that of the largest map's workers."""
    return own_peak_mib() + max(_workers_mib)


def own_peak_mib() -> float:
    """The peak of this process."""
    if platform.system() == "Linux":
        return _linux_peak_mib("self")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB_PER_MIB


def _linux_peak_mib(process: str) -> float:
    """VmHWM of proc(5): rusage also counts the process that started it, as whose copy it began."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:  # it has ended, or this is not Linux
        return 0.0
    found = (line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((int(kib) / KIB_PER_MIB for _, kib, _ in found), 0.0)
