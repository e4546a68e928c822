"""What a run of these params will cost, and whether it can be: size, work, memory, time, disk."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llm.config.align import DpoConfig
from llm.config.params import TRAINING, Params
from llm.config.sizes import block_parameter_count, parameter_count
from llm.plan.fit import device_of, expected_bytes, memory_of, missing_starts, refusals
from llm.plan.machine import Machine, gib
from llm.plan.memory import FP32_BYTES, Memory
from llm.plan.rest import rest_seconds
from llm.plan.speed import Speed
from llm.plan.work import Work, work

SMALL_VOCABULARY = 2**16  # ids of two bytes
STORED_FRAC = 2.4  # what the corpus stages keep of text, compressed, as measured
START_S = 4.0  # of a training stage: its process, its data, its last save


@dataclass(frozen=True)
class StagePlan:
    """One training stage."""

    device: str
    work: Work
    memory: Memory
    memory_bytes: int  # of one GPU, or of the machine
    time_s: float | None  # None where no speed is known


@dataclass(frozen=True)
class Disk:
    """Bytes that a run writes, by what they are for. DVC's cache links to the same files."""

    corpus: int | None  # None where the sources' size is not known before they are gathered
    tokens: int
    models: int  # base, sft, reward, dpo; and the registered one, uploaded
    checkpoints: int  # of the stage with the largest; they go when it is done
    free: int | None

    @property
    def needed(self) -> int:
        return (self.corpus or 0) + self.tokens + self.models + self.checkpoints


@dataclass(frozen=True)
class Plan:
    """All stages, and what speaks against starting."""

    parameters: int
    block_parameters: int  # without embeddings and output projection
    stages: Mapping[str, StagePlan]
    rest_s: Mapping[str, float | None]  # the other stages; None where it is not known
    machine: Machine
    disk: Disk
    refusals: list[str]

    @property
    def time_s(self) -> float | None:
        """Of all stages; None where some stage that trains is not known."""
        trained = [stage.time_s for stage in self.stages.values()]
        known = [time for time in trained if time is not None]
        rest = sum(time or 0 for time in self.rest_s.values())
        return sum(known) + rest if len(known) == len(trained) else None


def make_plan(
    params: Params,
    machine: Machine,
    speeds: Mapping[str, Speed],
    text_bytes: int | None,
    here: Path | None,
) -> Plan:
    """The plan of a run in folder `here`; None: of another machine.

    `speeds`: of the training stages whose speed is known; `text_bytes`: of the corpus, where that is.
    """
    stages = {stage: _stage(params, stage, machine, speeds.get(stage)) for stage in TRAINING}
    disk = _disk(params, stages, text_bytes, here)
    lines = list(refusals(params, TRAINING, machine))
    if here is not None:
        lines += missing_starts(params, TRAINING)
    if disk.free is not None and disk.needed > disk.free:
        lines.append(
            f"the disk has {gib(disk.free)} free, and {gib(disk.needed)} are needed; "
            "free some, or keep fewer checkpoints (pretrain.checkpoint.keep_last)"
        )
    return Plan(
        parameters=parameter_count(params.model, params.tokenizer.vocab_size),
        block_parameters=block_parameter_count(params.model),
        stages=stages,
        rest_s=rest_seconds(params, speeds.get("sft"), text_bytes),
        machine=machine,
        disk=disk,
        refusals=lines,
    )


def _stage(params: Params, stage: str, machine: Machine, speed: Speed | None) -> StagePlan:
    device = device_of(params, stage, machine)
    memory = memory_of(params, stage, device)
    each = work(params, stage)
    config = getattr(params, stage)
    time_s = None
    if speed is not None:
        evaluations = each.steps // config.eval_interval * config.eval_batches
        if isinstance(config, DpoConfig):  # the reference's look at every pair
            evaluations += each.steps // config.epochs * each.micros
        time_s = START_S + each.steps * speed.step_s + evaluations * speed.eval_s
    return StagePlan(device, each, memory, expected_bytes(params, memory, device), time_s)


def _disk(
    params: Params,
    stages: Mapping[str, StagePlan],
    text_bytes: int | None,
    here: Path | None,
) -> Disk:
    weights = FP32_BYTES * parameter_count(params.model, params.tokenizer.vocab_size)
    id_bytes = 2 if params.tokenizer.vocab_size <= SMALL_VOCABULARY else 4
    uploaded = params.register_.weights == "upload"
    return Disk(
        corpus=None if text_bytes is None else int(STORED_FRAC * text_bytes),
        tokens=id_bytes * params.pretrain.max_tokens,
        models=weights * (len(stages) + uploaded),
        checkpoints=max(_checkpoints(params, *item) for item in stages.items()),
        free=None if here is None else shutil.disk_usage(here).free,
    )


def _checkpoints(params: Params, name: str, stage: StagePlan) -> int:
    """Those that are kept, and one that is being written."""
    kept, launch = getattr(params, name).checkpoint, params.launch
    whole = stage.memory.snapshot * (1 if launch.parallel == "ddp" else launch.processes)
    return whole * (kept.keep_last + kept.keep_best + 1)
