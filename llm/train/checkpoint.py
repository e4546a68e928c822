"""A run in progress on disk: written beside the training, and continued as if never interrupted."""

import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from llm.config.train import CheckpointConfig
from llm.errors import CheckpointError
from llm.files import is_disk_full
from llm.train.distributed import Ranks
from llm.train.state import State
from llm.train.storage import damage, read_tensors, read_values, write_parts, write_whole

logger = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run: the newest, and those of the lowest validation loss.

    A killed run loses what came after its last checkpoint on disk: one interval, and the steps
    taken while a checkpoint was being written. Leaving the context waits for the writer.
    """

    def __init__(
        self, folder: Path, config: CheckpointConfig, ranks: Ranks, identity: Mapping[str, Any]
    ) -> None:
        """`identity`: what the run is made of; a checkpoint made of anything else is refused."""
        self.folder, self.config, self.ranks = folder, config, ranks
        self.identity = _flat(identity)
        self._best: dict[int, float] = {}  # the lowest validation losses, by step
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None
        self._snapshot: dict[str, Tensor] = {}
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown()

    def is_due(self, step: int) -> bool:
        """Whether so many steps or minutes have passed; the minutes by the first rank's clock."""
        by_steps = self.config.steps > 0 and step % self.config.steps == 0
        minutes = (time.monotonic() - self._saved_at) / 60
        return by_steps or (self.ranks.is_first and 0 < self.config.minutes <= minutes)

    def is_best(self, score: float | None) -> bool:
        """Whether this validation loss is among the `keep_best` lowest so far."""
        if score is None or not self.config.keep_best:
            return False
        return len(self._best) < self.config.keep_best or score < max(self._best.values())

    def save(self, state: State, score: float | None = None) -> None:
        """Copy the state now and write it while training goes on; every rank calls it.

        Waits for the checkpoint before, and raises what kept that from being written.
        """
        self.wait()
        self._saved_at = time.monotonic()
        if score is not None:
            self._note({state.step: score})
        if not self.ranks.writes:
            return
        self._snapshot = self.ranks.snapshot(state.tensors(), self._snapshot)
        values = state.values() | {"score": score, "identity": self.identity}
        values["processes"] = self.ranks.processes
        self._writing = self._thread.submit(self._write, state.step, values, set(self._best))

    def check(self) -> None:
        """Raise what kept the last checkpoint from being written, where that is known by now."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Return when the last checkpoint is on disk; raise what kept it from that."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def resume(self, state: State) -> int:
        """Continue from the newest checkpoint that is whole; from the start where there is none.

        Returns the number of finished steps. CheckpointError when all are damaged, or when it is of another run.
        """
        if self.ranks.is_first:
            _clear_partial(self.folder)
        paths = self.ranks.from_first(_complete(self.folder))
        for path in reversed(paths):
            wrong = self.ranks.texts(
                damage(path, slice(self.ranks.process, None, self.ranks.processes))
            )
            if not wrong:
                self._load(path, state)
                return state.step
            logger.warning("%s is damaged (%s); falling back to the one before", path, wrong)
            if self.ranks.is_first:  # out of the way of those that will be kept
                os.replace(path, path.with_name(f"damaged-{path.name}"))
        if paths:
            raise CheckpointError(
                f"all {len(paths)} checkpoints in {self.folder} are damaged; "
                "delete that folder to start from the beginning"
            )
        return state.step

    def load_best(self, state: State) -> None:
        """Take the weights of the lowest validation loss, which `keep_best` has kept."""
        self.wait()
        self.ranks.wait()
        step = min(self._best, key=lambda step: (self._best[step], step))
        logger.info("the weights are those of step %d, val/loss %.4f", step, self._best[step])
        read_tensors(_path(self.folder, step), state.weights())
        state.masters.refresh()

    def _load(self, path: Path, state: State) -> None:
        values = read_values(path)
        if differing := sorted(_differences(self.identity, values["identity"])):
            raise CheckpointError(
                f"{path} is of another run: {'; '.join(differing)}; delete {self.folder} to start "
                "from the beginning, or take back what changed"
            )
        if values["processes"] != self.ranks.processes:
            logger.warning(
                "%s was made by %d processes; going on with %d is equal up to rounding, not to the bit",
                *(path, values["processes"], self.ranks.processes),
            )
        read_tensors(path, state.restore(values))
        state.masters.refresh()
        for each in self.ranks.from_first(_complete(self.folder)):
            score = read_values(each)["score"]
            self._note({} if score is None else {int(each.name.removeprefix("step-")): score})

    def _note(self, scores: dict[int, float]) -> None:
        """Keep the steps of the lowest scores in mind; of equal ones the earlier."""
        every = self._best | scores
        kept = sorted(every, key=lambda step: (every[step], step))[: self.config.keep_best]
        self._best = {step: every[step] for step in kept}

    def _write(self, step: int, values: dict[str, Any], best: set[int]) -> None:
        """In the writer's thread: the folder, then what it makes superfluous goes."""
        path = _path(self.folder, step)
        try:
            if self.ranks.writers is None:
                write_whole(path, self._snapshot, values)
            else:
                write_parts(path, self._snapshot, values, self.ranks.writers)
            if self.ranks.is_first:
                _prune(self.folder, self.config.keep_last, best)
        except OSError as error:
            if is_disk_full(error):
                raise
            raise CheckpointError(f"{path} could not be written: {error}") from error


def _path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:09d}"


def _complete(folder: Path) -> list[Path]:
    """Checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*"))


def _prune(folder: Path, keep_last: int, best: set[int]) -> None:
    """Remove all but the last and the best; at once, each under a hidden name."""
    for path in _complete(folder)[:-keep_last]:
        if path not in {_path(folder, step) for step in best}:
            hidden = path.with_name(f".{path.name}.partial")
            os.replace(path, hidden)
            shutil.rmtree(hidden)


def _clear_partial(folder: Path) -> None:
    """Remove what a killed process was writing."""
    for path in folder.glob(".step-*.partial"):
        shutil.rmtree(path)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values under dotted keys."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping)
        found |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return found


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    for key in now.keys() | then.keys():
        if now.get(key) != then.get(key):
            yield f"{key} is {now.get(key)!r}, was {then.get(key)!r}"
