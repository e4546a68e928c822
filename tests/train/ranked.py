"""Cases that tests of parallel training run in one process, or in several (forked_ranks.py)."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from llm.align.dpo import collate_referenced, make_dpo_loss, reference_logps
from llm.align.reward import collate_scored, reward_loss
from llm.config.train import LaunchConfig
from llm.data.padded import PaddedTraining, PaddedValidation
from llm.data.pairs import EncodedPair
from llm.model import cross_entropy
from llm.model.flops import backbone_flops_per_token
from llm.model.folder import reward_from_language
from llm.model.transformer import LanguageModel, initialise
from llm.train.distributed import Ranks, ranks
from llm.train.loop import Job, train
from llm.train.next_token import next_token_loss
from tests.shapes import shape
from tests.train.toy import VOCAB, Patterns, config

LAUNCH = {"parallel": "ddp", "nodes": 1, "nproc_per_node": 1, "group_ranks": 1, "recompute": "none"}
PAIRS = [
    EncodedPair([n, n + 1, n + 2, n + 3], [n, n + 1] + [n + 5] * (n % 3 + 1), 2) for n in range(32)
]
Trained = tuple[dict[str, torch.Tensor], list[dict[str, float]]]


@dataclass(frozen=True)
class Case:
    """A run; one with `until` ends in that step, and leaves its checkpoints in `work`."""

    launch: dict[str, Any] = field(default_factory=dict)
    loss: str = "next token"
    optim: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    device: str = "cpu"
    compile: str = "off"
    work: str = ""
    n_steps: int = 4
    until: int = 0


class Ended(Exception):
    """Stands for a process that ends between two steps."""


def run(case: Case, folder: Path) -> Trained | None:
    """Weights and outcome, in the first process; nothing when it ended before."""

    def end(step: int, metrics: object) -> None:
        if step == case.until:
            raise Ended

    language = LanguageModel(shape(block_size=16, **case.parts), VOCAB)
    initialise(language, 1)
    settings = config(
        optim=case.optim,
        precision=case.precision,
        device=case.device,
        compile=case.compile,
        eval_interval=2,
        grad_norm_interval=2,
        checkpoint={"steps": 2},
    )
    processes = {"nproc_per_node": int(os.environ.get("WORLD_SIZE", "1"))}
    launch = LaunchConfig.model_validate(LAUNCH | processes | case.launch)
    with ranks(case.device, launch) as own:
        job = build_job(case, language, own)
        try:
            outcome = train(job, settings, own, folder / case.work, end)
        except Ended:
            return None
        weights = own.weights(job.model)
        return (weights, outcome.history) if own.is_first else None


def kept(folder: Callable[[], Path]) -> Callable[[Case], Trained]:
    """`run` to the end in this process, in folders of its own, and once for each case."""
    made: dict[str, Trained] = {}

    def make(case: Case) -> Trained:
        if repr(case) not in made:
            trained = run(case, folder())
            assert trained is not None
            made[repr(case)] = trained
        return made[repr(case)]

    return make


def build_job(case: Case, language: LanguageModel, own: Ranks) -> Job:
    """A language model, a reward model, or DPO with its reference."""
    loss = case.loss
    flops = backbone_flops_per_token(language.backbone)
    if loss == "next token":
        patterns = Patterns(case.n_steps, 4, 4)
        val = [Patterns(1, 4, 4).micro_batch(1000 + i, 0) for i in range(5)]
        return Job(loss, language, next_token_loss, patterns, val, flops)
    sizes = {"batch_size": 16, "micro_batch_size": 4, "epochs": case.n_steps // 2, "seed": 1}
    if loss == "reward":
        lengths = [pair.length for pair in PAIRS]
        rewarding = PaddedTraining(PAIRS, lengths, collate_scored, **sizes)
        val = PaddedValidation(PAIRS, collate_scored, 4)
        return Job(loss, reward_from_language(language), reward_loss, rewarding, val, flops)
    own.shard(language, in_bf16=case.precision == "bf16_weights")
    referenced = reference_logps(language.eval(), PAIRS, 4, own.device)
    lengths = [item.pair.length for item in referenced]
    preferring = PaddedTraining(referenced, lengths, collate_referenced, **sizes)
    val = PaddedValidation(referenced, collate_referenced, 4)
    return Job(loss, language, make_dpo_loss(0.1), preferring, val, flops)


def run_cases(folder: Path, cases: dict[str, dict[str, Any]]) -> None:
    """One of several processes: each case's weights and history go into a file by its name.

    Sixteen rows of logits exist at a time, where one process alone has all of them.
    """
    cross_entropy.LEAST_ROWS, cross_entropy.ROW_BYTES = 16, {"cpu": 1, "cuda": 1}
    on_gpus = any(values["device"] == "cuda" for values in cases.values())
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpus else "gloo")
    for name, values in cases.items():
        if trained := run(Case(**values), folder):
            torch.save(trained, folder / f"{name}.pt")
    dist.destroy_process_group()
