"""What logging and checkpoints cost: the wall time of pretraining's steps with them and without.

    dvc repro tokenize
    python -m benchmarks.overhead

Stage `pretrain` as params.yaml has it, without validation and sample texts. With: the progress line, the
gradient norms by layer, checkpoints (every 100 steps in the default params), the record, and the process
that sends it to MLflow, all of them running beside the steps. Without: none of that. Each run is a
process of its own, in turns; its first steps don't count.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality import alone
from llm.config.base import parse_yaml, validate
from llm.config.params import PARAMS, Params
from llm.config.presets import apply_overrides
from llm.process import Context
from llm.stages import pretrain
from llm.tracking.spool import recording

FIRST_STEP = 100  # up to here nothing counts; checkpoints of the steps after it do
NEVER = 1_000_000
UNVALIDATED = {"pretrain.eval_interval": NEVER, "pretrain.samples.prompts": []}
BARE = {
    "pretrain.log_interval": FIRST_STEP,
    "pretrain.grad_norm_interval": 0,
    "pretrain.checkpoint.steps": 0,
    "pretrain.checkpoint.minutes": float(NEVER),
}


def with_all(n_steps: int) -> float:
    """Seconds of a step with logging, records and checkpoints."""
    return step_s({}, n_steps, recorded=True)


def bare(n_steps: int) -> float:
    """Seconds of a step alone."""
    return step_s(BARE, n_steps, recorded=False)


def step_s(overrides: Mapping[str, Any], n_steps: int, *, recorded: bool) -> float:
    """Mean wall seconds of the steps after FIRST_STEP."""
    os.environ["LLM_TRACKING"] = "on" if recorded else "off"
    params = _params({**UNVALIDATED, **overrides}, n_steps)
    at: dict[int, float] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        own = {key: f"{scratch}/{key}" for key in ("models", "metrics", "timings", "plots", "work")}
        paths = params.paths.model_copy(update=own)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{scratch}/mlflow.db"
        with recording("pretrain", Path(paths.work), params.model_dump(), []) as recorder:

            def log(step: int, metrics: Mapping[str, float]) -> None:
                at.setdefault(step, time.perf_counter())
                recorder.log(step, metrics)

            ctx = Context("pretrain", paths, Path(scratch) / "work", log=log)
            pretrain.run(ctx, launch=params.launch, model=params.model, pretrain=params.pretrain)
    return (at[n_steps] - at[FIRST_STEP]) / (n_steps - FIRST_STEP)


def _params(overrides: Mapping[str, Any], n_steps: int) -> Params:
    batch = validate(Params, parse_yaml(PARAMS.read_text(), str(PARAMS)), "").pretrain.batch_tokens
    values = {**overrides, "pretrain.max_tokens": n_steps * batch}
    text = apply_overrides(PARAMS.read_text(), values)
    return validate(Params, parse_yaml(text, str(PARAMS)), "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    ratios = []
    print("| round | ms a step, bare | with logging, records and checkpoints | ratio |")  # noqa: T201
    print("|---:|---:|---:|---:|")  # noqa: T201
    for number in range(given.rounds):
        without, full = (alone(each, given.steps) for each in (bare, with_all))
        ratios.append(full / without)
        row = f"| {number + 1} | {1000 * without:.1f} | {1000 * full:.1f} | {ratios[-1]:.3f} |"
        print(row, flush=True)  # noqa: T201
    print(f"\nmedian ratio {statistics.median(ratios):.3f}")  # noqa: T201


if __name__ == "__main__":
    main()
