"""What this machine has for us: memory and GPUs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # NVIDIA's, AMD's, Windows'


@dataclass(frozen=True)
class Machine:
    """Bytes of memory at most, and of each GPU's own; None where GPUs may be there, of unknown size."""

    memory: int
    gpus: tuple[int, ...] | None


@cache
def this_machine() -> Machine:
    """As this process may use it."""
    return Machine(memory_bytes(), gpu_bytes())


def memory_bytes() -> int:
    """Of the machine, or the control group's limit; what swap holds beside it counts as well."""
    return min([psutil.virtual_memory().total, *control_groups()]) + psutil.swap_memory().total


def control_groups(root: Path = Path("/")) -> Iterator[int]:
    """Memory limit in bytes of each control group above this process that has one (v1 and v2)."""
    groups = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # another system, or hidden
        return
    for _, controllers, path in (line.split(":", 2) for line in lines):
        if controllers not in ("", "memory"):
            continue
        top = groups / controllers
        here = top / path.lstrip("/")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        for folder in (here, *here.parents):
            if folder.is_relative_to(top):
                try:
                    yield int((folder / name).read_text())
                except (OSError, ValueError):  # none, or `max`
                    continue


def gpu_bytes() -> tuple[int, ...] | None:
    """Of each GPU that NVIDIA's driver names; None where some other driver is there."""
    if not shutil.which("nvidia-smi"):
        return None if any(map(os.path.exists, DRIVERS)) else ()
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return tuple(int(line) * 2**20 for line in done.stdout.split() if line.isdigit())
