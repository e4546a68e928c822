"""Some real steps of each training stage, timed: what a plan knows of this machine's speed.

A network or micro-batch that would take too long is tried with fewer layers and rows, and the time
counted up by FLOPs.
"""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import nn

from llm.align.dpo import make_dpo_loss
from llm.align.reward import reward_loss
from llm.config.align import DpoConfig, RewardConfig
from llm.config.params import Params
from llm.config.sizes import flops_per_token
from llm.config.train import TrainConfig
from llm.data.batch import Batch
from llm.model.device import pick_device
from llm.model.transformer import LanguageModel, RewardModel
from llm.plan.speed import Speed
from llm.plan.work import Work, work
from llm.train.next_token import next_token_loss
from llm.train.optimizer import build_optimizer
from llm.train.precision import computing
from llm.train.step import LossFn

TRIAL_FLOPS = 3e11  # of a micro-batch: three seconds on two slow cores
LEAST_ROUNDS, LEAST_S = 4, 1.5


def try_stage(params: Params, stage: str) -> Speed:
    """The speed of a training stage here, not compiled; ConfigError where its device is missing."""
    config: TrainConfig = getattr(params, stage)
    each, device = work(params, stage), pick_device(config.device)
    vocab_size = params.tokenizer.vocab_size
    whole = _flops(params, each)
    rows = _pairs_or_one(config, int(each.rows * min(1.0, TRIAL_FLOPS / whole)))
    layers, shape = params.model.n_layer, params.model
    while layers > 1 and _flops(params, each, rows, layers) > TRIAL_FLOPS:
        layers //= 2
    shape = shape.model_copy(update={"n_layer": layers})
    scale = whole / _flops(params, each, rows, layers)
    network = RewardModel if isinstance(config, RewardConfig) else LanguageModel
    with device:
        model = network(shape, vocab_size).train()
        loss_fn, batch = _loss(config), _batch(config, rows, each, vocab_size)
    optimizer = build_optimizer(model, config.optim)

    def micro() -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing(model, config.precision):
            loss_fn(model, batch)["loss"].backward()

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip)
        optimizer.step()

    @torch.no_grad()
    def look() -> None:
        with computing(model, config.precision):
            loss_fn(model, batch)

    micro_s, update_s, eval_s = _timed((micro, update, look), device)
    update_s *= params.model.n_layer / layers
    return Speed(each.micros * micro_s * scale + update_s, eval_s * scale)


def _flops(params: Params, each: Work, rows: int | None = None, layers: int | None = None) -> float:
    """Of a micro-batch, of so many rows and layers."""
    shape = params.model.model_copy(update={"n_layer": layers or params.model.n_layer})
    tokens = (rows or each.rows) * each.length
    return float(tokens * flops_per_token(shape, params.tokenizer.vocab_size))


def _pairs_or_one(config: TrainConfig, rows: int) -> int:
    """At least one sequence, or one pair."""
    if isinstance(config, RewardConfig | DpoConfig):
        return max(2, rows // 2 * 2)
    return max(1, rows)


def _loss(config: TrainConfig) -> LossFn:
    if isinstance(config, RewardConfig):
        return reward_loss
    return make_dpo_loss(config.beta) if isinstance(config, DpoConfig) else next_token_loss


def _batch(config: TrainConfig, rows: int, each: Work, vocab_size: int) -> Batch:
    """Random tokens; those that are learnt from are at the end of each row."""
    ids = torch.randint(vocab_size, (rows, each.length))
    inputs = {"ids": ids}
    if isinstance(config, RewardConfig):
        inputs["last"] = torch.full((rows,), each.length - 1)
        return Batch(inputs, units=rows // 2, tokens=ids.numel())
    inputs["targets"] = ids
    if each.answer_frac < 1:
        learnt = torch.arange(each.length) >= round(each.length * (1 - each.answer_frac))
        inputs["loss_mask"] = learnt.repeat(rows, 1)
    if isinstance(config, DpoConfig):
        inputs |= {name: torch.zeros(rows // 2) for name in ("ref_chosen", "ref_rejected")}
    return Batch(inputs, units=rows, tokens=ids.numel())


def _timed(runs: Sequence[Callable[[], None]], device: torch.device) -> list[float]:
    """The median seconds of each, taken in turn some times, the first aside."""
    rounds: list[list[float]] = []
    while len(rounds) <= LEAST_ROUNDS or sum(map(sum, rounds)) < LEAST_S:
        rounds.append([_seconds(run, device) for run in runs])
    return [median(times) for times in zip(*rounds[1:], strict=True)]


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
