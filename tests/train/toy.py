"""A tiny language-model job that tests of the loop share."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from llm.config.train import CheckpointConfig, LaunchConfig, OptimConfig, TrainConfig
from llm.data.batch import Batch
from llm.model.flops import flops_per_token
from llm.model.transformer import LanguageModel, initialise
from llm.train.distributed import ranks
from llm.train.loop import Job, Outcome, train
from llm.train.next_token import next_token_loss
from llm.train.step import LossFn
from tests.shapes import shape

SHAPE = shape(block_size=16, n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
VOCAB = 50
SAMPLES = {
    "interval": 0,
    "prompts": [],
    "sampling": {"temperature": 0.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 8},
}
OPTIM = {
    "optimizer": "adamw",
    "lr": 1e-2,
    "muon_lr": 0.02,
    "muon_momentum": 0.95,
    "schedule": "cosine",
    "min_lr_frac": 0.1,
    "warmup_frac": 0.1,
    "decay_frac": 0.2,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "nonfinite": "stop",
    "skip_sigma": 0.0,
    "skip_window": 10,
}
CHECKPOINT = {"steps": 4, "minutes": 0.0, "keep_last": 2, "keep_best": 0, "result": "last"}


class Patterns:
    """Rows of a repeating pattern, some targets masked out: uneven units per micro-batch."""

    def __init__(self, n_steps: int, micros_per_step: int, micro_batch_size: int) -> None:
        self.n_steps, self.micros_per_step = n_steps, micros_per_step
        self.micro_batch_size = micro_batch_size

    def micro_batch(self, step: int, index: int) -> Batch:
        first = (step * self.micros_per_step + index) * self.micro_batch_size
        rows = [
            [(i * i + i * t) % VOCAB for t in range(17)]
            for i in (n % 48 for n in range(first, first + self.micro_batch_size))
        ]
        ids = torch.tensor(rows)
        mask = (ids[:, 1:] + ids[:, :1]) % 3 > 0
        inputs = {"ids": ids[:, :-1], "targets": ids[:, 1:], "loss_mask": mask}
        return Batch(inputs, int(mask.sum()), ids[:, 1:].numel())


def config(**changes) -> TrainConfig:
    values = {
        "init_from": "",
        "optim": OptimConfig.model_validate(OPTIM | changes.pop("optim", {})),
        "precision": "fp32",
        "device": "cpu",
        "compile": "off",
        "micro_batch_size": 4,
        "eval_interval": 5,
        "eval_batches": 2,
        "checkpoint": CheckpointConfig.model_validate(CHECKPOINT | changes.pop("checkpoint", {})),
        "log_interval": 1,
        "grad_norm_interval": 0,
        "profile": {"first_step": 1, "n_steps": 0},
        "seed": 1,
    }
    return TrainConfig.model_validate(values | changes)


def run(
    work: Path,
    batches: Patterns,
    settings: TrainConfig,
    log=lambda step, metrics: None,
    loss_fn: LossFn = next_token_loss,
    keep: Callable[[Path], None] = lambda path: None,
    identity: Mapping[str, str] | None = None,
    launch: LaunchConfig | None = None,
    **parts,
) -> tuple[LanguageModel, Outcome]:
    model = LanguageModel(SHAPE.model_copy(update=parts), VOCAB)
    initialise(model, 1)
    val = [Patterns(1, 4, 4).micro_batch(1000 + i, 0) for i in range(3)]
    flops = flops_per_token(model, 16)
    made_of = identity or {}
    job = Job("toy", model, loss_fn, batches, val, flops, keep=keep, identity=made_of)
    with ranks(settings.device, launch) as own:
        outcome = train(job, settings, own, work, log)
        if own.mesh is not None:  # all of the weights, in a model of one process
            weights = own.weights(model)
            model = LanguageModel(model.config, VOCAB)
            if own.is_first:
                model.load_state_dict(weights)
        return model, outcome
