"""The loop of every training stage: resume, step, validate, log, save."""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from llm.config.train import TrainConfig
from llm.data.batch import Batch, Batches
from llm.errors import ConfigError
from llm.tied import EXIT_TERMINATED
from llm.train.checkpoint import Checkpoints
from llm.train.compile import compiles
from llm.train.distributed import Ranks
from llm.train.feed import feed
from llm.train.guard import StepGuard
from llm.train.interrupt import deferred_sigterm
from llm.train.masters import MasterWeights
from llm.train.optimizer import build_optimizer
from llm.train.precision import DTYPES, loss_scaler, prepare
from llm.train.schedule import learning_rate
from llm.train.state import State
from llm.train.step import LossFn, train_step, validate
from llm.train.throughput import Throughput, clock, peak_flops
from llm.train.trace import Trace
from llm.train.watch import is_due, peak_memory_mb

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What a stage trains: the weights in `model` are updated in place."""

    name: str
    model: nn.Module
    loss_fn: LossFn
    train: Batches
    val: Sequence[Batch]
    flops_per_token: int
    derive: Callable[[dict[str, float]], dict[str, float]] = lambda metrics: {}  # e.g. bpb of loss
    sample: Callable[[int, bool], None] = lambda step, is_first: None  # texts; on every rank
    keep: Callable[[Path], None] = lambda path: None  # a file that is no out, with the run's record
    identity: Mapping[str, Any] = field(
        default_factory=dict
    )  # hashes of what it is made from: a checkpoint of another run is refused


@dataclass(frozen=True)
class Outcome:
    """The curve, the metrics on all validation data, and the speed of this attempt."""

    history: list[dict[str, float]]
    final: dict[str, float]
    timings: dict[str, float]


def train(
    job: Job,
    config: TrainConfig,
    ranks: Ranks,
    work: Path,
    log: Callable[[int, Mapping[str, float]], None],
) -> Outcome:
    """Train to the last step, continuing from the checkpoint in `work` if there is one.

    Exits 143 after saving when SIGTERM comes. `log` is called on every rank.
    """
    if len(job.val) < ranks.size:
        raise ConfigError(
            f"{job.name}: {len(job.val)} validation micro-batches cannot be shared out over "
            f"{ranks.size} ranks; lower {job.name}.micro_batch_size or hold out more data"
        )
    model = job.model.train()
    prepare(model, config.precision, ranks.device)
    compiled = compiles(config.compile, model, ranks.device, _run_flops(job))
    ranks.shard(model, in_bf16=config.in_bf16)
    optimizer = build_optimizer(model, config.optim)
    masters = MasterWeights(model, in_bf16=config.in_bf16 and ranks.mesh is None)
    stepped = ranks.wrap(model, compiled=compiled)
    scaler = loss_scaler(config.precision, ranks.device)
    state = State(model, masters, optimizer, scaler, StepGuard(config.optim))
    speed = Throughput(job.flops_per_token, _peak(config, ranks))
    trace = Trace(config.profile, work / f"{job.name}-rank-{ranks.process}", job.keep)
    n_steps = job.train.n_steps
    identity = {**job.identity, "config": config.model_dump()}
    with (
        deferred_sigterm() as interrupt,
        Checkpoints(work, config.checkpoint, ranks, identity) as checkpoints,
        feed(job.train, ranks, checkpoints.resume(state)) as batches,
    ):
        if state.step:
            logger.info("%s: resuming after step %d of %d", job.name, state.step, n_steps)
        while state.step < n_steps:
            with trace.step(state.step + 1):
                row = _step(job, stepped, batches, state, config, ranks, speed)
            state.step += 1
            done = state.step == n_steps
            if state.step % config.eval_interval == 0 or (done and config.checkpoint.keep_best):
                row |= _validate(job, stepped, config, ranks, config.eval_batches)
            watched = "val/loss" in row or is_due(config.grad_norm_interval, state.step)
            if state.step % config.log_interval == 0 or done or watched:
                _report(job, state, row, n_steps, speed, peak_memory_mb(ranks.device), log)
            job.sample(state.step, ranks.is_first)
            stop, due = ranks.any(bool(interrupt), checkpoints.is_due(state.step))
            if stop or done or due or checkpoints.is_best(row.get("val/loss")):
                checkpoints.save(state, row.get("val/loss"))
            checkpoints.check()
            if stop:
                checkpoints.wait()
                logger.info("%s: asked to end; saved after step %d", job.name, state.step)
                sys.exit(EXIT_TERMINATED)
        if config.checkpoint.result == "best":
            checkpoints.load_best(state)
    final = _validate(job, stepped, config, ranks, len(job.val))
    masters.dissolve()
    state.history[-1] = state.history[-1] | final
    log(n_steps, final)
    logger.info("%s: %s", job.name, "  ".join(f"{k} {v:.4f}" for k, v in final.items()))
    return Outcome(state.history, final, speed.overall())


def _step(
    job: Job,
    model: nn.Module,
    steps: Iterator[list[Batch]],
    state: State,
    config: TrainConfig,
    ranks: Ranks,
    speed: Throughput,
) -> dict[str, float]:
    """Set the rate, take this rank's share of the step's micro-batches, update."""
    started = time.perf_counter()
    step = state.step
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(group["peak_lr"], step, job.train.n_steps, config.optim)
    lr = learning_rate(config.optim.lr, step, job.train.n_steps, config.optim)
    batches = next(steps)
    means = train_step(model, batches, job.loss_fn, state, config, ranks)
    tokens = sum(batch.tokens for batch in batches) * ranks.size  # ranks have equal shares
    speed.add(tokens, time.perf_counter() - started)
    return {f"train/{name}": value for name, value in means.items()} | {"lr": lr}


def _validate(
    job: Job, model: nn.Module, config: TrainConfig, ranks: Ranks, limit: int
) -> dict[str, float]:
    """Means over the first `limit` validation batches, shared out over the ranks.

    Each computes equally many, since together they gather weights; one over counts nothing.
    """
    count = min(limit, len(job.val))
    rounds = range(ranks.rank, -(-count // ranks.size) * ranks.size, ranks.size)
    share = (job.val[i] if i < count else replace(job.val[0], units=0) for i in rounds)
    means = validate(model, share, job.loss_fn, config, ranks)
    return {f"val/{name}": value for name, value in (means | job.derive(means)).items()}


def _report(
    job: Job,
    state: State,
    row: dict[str, float],
    n_steps: int,
    speed: Throughput,
    memory_mb: float,
    log: Callable[[int, Mapping[str, float]], None],
) -> None:
    """Add a row to the curve, send it, and print the progress line."""
    state.history.append({"step": state.step, **row})
    now = speed.read() | {"memory_mb": memory_mb}
    log(state.step, row | {f"train/{name}": value for name, value in now.items()})
    per_step_s = speed.busy_s / max(1, speed.steps)
    left_s = (n_steps - state.step) * per_step_s
    val = f"  val {row['val/loss']:.4f}" if "val/loss" in row else ""
    val += f"  bpb {row['val/bpb']:.4f}" if "val/bpb" in row else ""
    logger.info(
        "%s  step %d/%d  loss %.4f%s  lr %.2e  %d tokens/s  mfu %.0f%%  %.2f GB  %s left",
        *(job.name, state.step, n_steps, row["train/loss"], val, row["lr"]),
        *(now["tokens_per_s"], 100 * now["mfu"], memory_mb / 1000, clock(left_s)),
    )


def _run_flops(job: Job) -> float:
    """FLOPs of the whole run, as if every micro-batch had the first one's tokens."""
    tokens = job.train.micro_batch(0, 0).tokens * job.train.micros_per_step * job.train.n_steps
    return float(tokens * job.flops_per_token)


def _peak(config: TrainConfig, ranks: Ranks) -> float:
    """FLOP/s of all ranks; on a CPU the ranks share the cores."""
    one = peak_flops(ranks.device, DTYPES[config.precision])
    return one * (ranks.size if ranks.device.type == "cuda" else 1)
