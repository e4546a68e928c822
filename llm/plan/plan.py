"""What a run of these params will cost, and whether it can be: size, work, memory, time, disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llm.config.align import DpoConfig
from llm.config.params import TRAINING, Params
from llm.config.sizes import block_parameter_count, parameter_count
from llm.config.stages import STAGES
from llm.plan.disk import Disk, disk_of, too_full
from llm.plan.fit import device_of, expected_bytes, memory_of, refusals
from llm.plan.inputs import missing_files
from llm.plan.machine import Machine
from llm.plan.memory import Memory
from llm.plan.rest import rest_seconds
from llm.plan.speed import Speed
from llm.plan.work import Work, work

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
    disk = disk_of(params, STAGES, text_bytes, here)
    lines = list(refusals(params, TRAINING, machine))
    if here is not None:
        lines += missing_files(params, STAGES, here)
    lines += too_full(disk)
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
