"""What logging and checkpoints add to pretraining's steps.

    dvc repro tokenize
    python -m benchmarks.overhead

Stage `pretrain` as params.yaml has it, without validation and sample texts, which are work of another
kind. Two runs differ by more than what is to be measured, so that it is accounted for inside of one:

- the gradient norms by layer, a part of every tenth step, by the clock
- what the loop does between two steps: the progress line, the record, the checkpoint's copy; by the clock
- what runs beside the steps: the threads that write checkpoints and sample the machine, and the process that
  sends the record to MLflow; by their processor time, as if they took all of it from the steps

The first steps don't count, in which threads and processes start.
"""

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

import psutil
import torch

from llm.config.base import parse_yaml, validate
from llm.config.params import PARAMS, Params
from llm.config.presets import apply_overrides
from llm.process import Context
from llm.stages import pretrain
from llm.tracking.spool import recording
from llm.train import loop
from llm.train import step as steps

Result = TypeVar("Result")

FIRST_STEP = 100  # up to here nothing counts; checkpoints of the steps after it do
UNVALIDATED = {"pretrain.eval_interval": 1_000_000, "pretrain.samples.prompts": []}
THREADS = ("checkpoint", "system-metrics")  # begin the names of those that serve the record


@dataclass
class Clock:
    """Seconds so far, of the steps and of the gradient norms in them."""

    seconds: dict[str, float] = field(default_factory=lambda: {"steps": 0.0, "norms": 0.0})

    def timed(self, name: str, function: Callable[..., Result]) -> Callable[..., Result]:
        """`function`, whose time counts under `name`."""

        def run(*args: Any) -> Result:
            started = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.seconds[name] += time.perf_counter() - started

        return run

    def read(self) -> dict[str, float]:
        """Those seconds, the wall clock's, and the processor's of threads and processes beside."""
        names = {each.native_id: each.name for each in threading.enumerate()}
        own = psutil.Process()
        threads = [each for each in own.threads() if names.get(each.id, "").startswith(THREADS)]
        children = [child.cpu_times() for child in own.children(recursive=True)]
        return self.seconds | {
            "wall": time.perf_counter(),
            "threads": sum(each.user_time + each.system_time for each in threads),
            "sender": sum(each.user + each.system for each in children),
        }


def spent(n_steps: int) -> dict[str, float]:
    """What passed of each from FIRST_STEP to the last step but one, in seconds."""
    clock = Clock()
    params = _params(n_steps)
    readings: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        own = {key: f"{scratch}/{key}" for key in ("models", "metrics", "timings", "plots", "work")}
        paths = params.paths.model_copy(update=own)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        with (
            patch.object(loop, "_step", clock.timed("steps", loop._step)),
            patch.object(steps, "layer_norms", clock.timed("norms", steps.layer_norms)),
            recording("pretrain", Path(paths.work), params.model_dump(), []) as recorder,
        ):

            def log(step: int, metrics: Mapping[str, float]) -> None:
                recorder.log(step, metrics)
                if step in {FIRST_STEP, n_steps}:
                    readings.setdefault(step, clock.read())

            ctx = Context("pretrain", paths, Path(scratch) / "work", log=log)
            pretrain.run(ctx, launch=params.launch, model=params.model, pretrain=params.pretrain)
    first, last = readings[FIRST_STEP], readings[n_steps]
    return {name: last[name] - first[name] for name in first}


def _params(n_steps: int) -> Params:
    batch = validate(Params, parse_yaml(PARAMS.read_text(), str(PARAMS)), "").pretrain.batch_tokens
    values = {**UNVALIDATED, "pretrain.max_tokens": n_steps * batch}
    text = apply_overrides(PARAMS.read_text(), values)
    return validate(Params, parse_yaml(text, str(PARAMS)), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=600, help="of which the first 100 don't count")
    given = parser.parse_args()
    seconds = spent(given.steps)
    count, cores = given.steps - FIRST_STEP, torch.get_num_threads()
    bare = seconds["steps"] - seconds["norms"]
    parts = {
        "gradient norms by layer": seconds["norms"],
        "between the steps": seconds["wall"] - seconds["steps"],
        "threads: checkpoints, the machine's metrics": seconds["threads"] / cores,
        "the record's sender": seconds["sender"] / cores,
    }
    print(f"\n| {count} steps of pretrain | ms a step | share |\n|---|---:|---:|")  # noqa: T201
    for name, part in {"the step itself": bare, **parts, "all": sum(parts.values())}.items():
        print(f"| {name} | {1000 * part / count:.2f} | {part / bare:.2%} |")  # noqa: T201


if __name__ == "__main__":
    main()
