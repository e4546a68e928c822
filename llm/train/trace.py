"""Where a step's time goes: torch's profiler over the steps that `profile` names.

The trace opens in https://ui.perfetto.dev, chrome://tracing or TensorBoard.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from llm.config.train import ProfileConfig

logger = logging.getLogger(__name__)


class Trace:
    """Profiles this process's steps, from the first to the last that are asked for."""

    def __init__(self, config: ProfileConfig, path: Path, keep: Callable[[Path], None]) -> None:
        """The Chrome trace is written to a file beside `path` and handed to `keep`."""
        self._steps = range(config.first_step, config.first_step + config.n_steps)
        self._path, self._keep = path, keep
        self._profiler: profile | None = None

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Within it lies step `number`, counted from 1."""
        if number not in self._steps:
            yield
            return
        if self._profiler is None:  # resumed in the middle, the rest is traced
            self._profiler = _started()
        with torch.profiler.record_function(f"step {number}"):
            yield
        if number == self._steps[-1]:
            self._profiler.stop()
            self._write()

    def _write(self) -> None:
        assert self._profiler is not None
        first, last = self._steps[0], self._steps[-1]
        file = self._path.with_name(f"{self._path.name}-steps-{first}-{last}.json.gz")
        file.parent.mkdir(parents=True, exist_ok=True)
        self._profiler.export_chrome_trace(str(file))
        self._profiler = None
        self._keep(file)


def _started() -> profile:
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    profiler = profile(activities=activities, record_shapes=True)
    profiler.start()
    return profiler
