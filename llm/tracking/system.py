"""What a stage asks of the machine: processor, memory and GPUs, under MLflow's names."""

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import psutil

INTERVAL_S = 5.0
MB, MIB = 1e6, 1024**2
GPU_FIELDS = ("index", "utilization.gpu", "memory.used", "memory.total", "power.draw")


@contextmanager
def system_metrics(log: Callable[[int, Mapping[str, float]], None]) -> Iterator[None]:
    """Sample every few seconds while the body runs; not in short stages."""
    stop = threading.Event()

    def sample() -> None:
        step = 0
        psutil.cpu_percent()  # the first call only starts the measurement
        while not stop.wait(INTERVAL_S):
            log(step, system_sample() | gpu_sample())
            step += 1

    thread = threading.Thread(target=sample, name="system-metrics", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def system_sample() -> dict[str, float]:
    """Share of the processor in use, memory in use, and that of this process and its children."""
    memory = psutil.virtual_memory()
    own = psutil.Process()
    resident = own.memory_info().rss
    for child in own.children(recursive=True):
        try:
            resident += child.memory_info().rss
        except psutil.Error:  # it ended in between
            continue
    return {
        "system/cpu_utilization_percentage": psutil.cpu_percent(),
        "system/system_memory_usage_megabytes": memory.used / MB,
        "system/process_memory_megabytes": resident / MB,
    }


def gpu_sample() -> dict[str, float]:
    """Load, memory and power of each GPU, as far as nvidia-smi tells; nothing without it."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    query = [program, f"--query-gpu={','.join(GPU_FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=INTERVAL_S, check=True)
    except (OSError, subprocess.SubprocessError):  # its driver is not there, or does not answer
        return {}
    found: dict[str, float] = {}
    for line in done.stdout.splitlines():
        index, *values = (value.strip() for value in line.split(","))
        load, used, total, power = (_number(value) for value in values)
        for name, value in (
            ("utilization_percentage", load),
            ("memory_usage_megabytes", used and used * MIB / MB),
            ("memory_usage_percentage", used and total and 100 * used / total),
            ("power_usage_watts", power),
        ):
            if value is not None:
                found[f"system/gpu_{index}_{name}"] = value
    return found


def _number(text: str) -> float | None:
    """None for what the device does not tell: [N/A]."""
    try:
        return float(text)
    except ValueError:
        return None
