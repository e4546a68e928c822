"""Whether training stages fit into a machine's memory.

Refused is only what is impossible: weights, gradients and optimizer, and of the activations half of
what is counted, and those only where every row is as long as the block.
"""

import math
from collections.abc import Collection, Iterator

from llm.config.align import SftConfig
from llm.config.params import TRAINING, Params
from llm.config.sizes import parameter_count
from llm.config.train import PretrainConfig
from llm.plan.machine import Machine
from llm.plan.memory import Memory, step_memory
from llm.plan.numbers import gib, short
from llm.plan.work import work

# A process that trains has Python, torch and its libraries; and more than its tensors, because
# an allocator wastes some: as measured on a CPU.
PROCESS_BYTES, CPU_WASTE = 330_000_000, 1.2
SURE_FRAC = 0.5  # of the activations: as many are needed at least, compiled or not


def device_of(params: Params, stage: str, machine: Machine) -> str:
    """cpu or cuda: where the stage trains."""
    device = getattr(params, stage).device
    return device if device != "auto" else "cpu" if machine.gpus == () else "cuda"


def memory_of(params: Params, stage: str, device: str, **changes: int | str) -> Memory:
    """Of a process at its fullest; `changes`: another micro_batch_size or recompute."""
    config, launch, each = getattr(params, stage), params.launch, work(params, stage)
    if "recompute" in changes:
        launch = launch.model_copy(update={"recompute": changes["recompute"]})
    if size := changes.get("micro_batch_size"):
        config = config.model_copy(update={"micro_batch_size": size})
    return step_memory(
        params.model,
        params.tokenizer.vocab_size,
        config,
        launch,
        length=each.longest,
        micros=each.micros,
        device=device,
    )


def expected_bytes(params: Params, memory: Memory, device: str) -> int:
    """What one device will have to hold: a GPU, or the memory of a machine for all its processes."""
    if device == "cuda":
        return memory.fullest + PROCESS_BYTES
    processes = params.launch.nproc_per_node
    copies = 1 if params.launch.parallel == "ddp" else processes
    each = PROCESS_BYTES + int(CPU_WASTE * memory.fullest)
    return processes * each + copies * memory.snapshot


def least_bytes(params: Params, stage: str, memory: Memory, device: str) -> int:
    """What it holds in any case."""
    config = getattr(params, stage)
    full = isinstance(config, PretrainConfig) or (
        isinstance(config, SftConfig) and config.packing == "best_fit"
    )
    activations = int(SURE_FRAC * memory.activations) if full else 0
    least = max(memory.states, memory.weights + memory.optimizer + activations)
    return least if device == "cuda" else least * params.launch.nproc_per_node


def refusals(
    params: Params, stages: Collection[str], machine: Machine, *, here: bool = True
) -> Iterator[str]:
    """Why each cannot fit, in a line: what it needs, what there is, what would fit."""
    stages = [stage for stage in TRAINING if stage in stages]
    on = {stage: device_of(params, stage, machine) for stage in stages}
    missing = [stage for stage in stages if on[stage] == "cuda" and machine.gpus == ()]
    if here and missing:
        yield (
            f"{', '.join(f'{stage}.device' for stage in missing)}=cuda, and this machine has no CUDA "
            "device; set auto or cpu, or run on a machine with a GPU (`llm plan --gpu` tells what it "
            "would take)"
        )
    for stage in stages:
        there = machine.memory if on[stage] == "cpu" else min(machine.gpus or [math.inf])
        if stage != "pretrain" and getattr(params, stage).init_from:
            continue  # another network, which lies there
        needs = least_bytes(params, stage, memory_of(params, stage, on[stage]), on[stage])
        if needs > there:
            yield _say(params, stage, on[stage], needs, int(there))


def _say(params: Params, stage: str, device: str, needs: int, there: int) -> str:
    parameters = parameter_count(params.model, params.tokenizer.vocab_size)
    size = getattr(params, stage).micro_batch_size
    what = "this machine" if device == "cpu" else "the GPU"
    return (
        f"{stage}: {short(parameters)} parameters and {stage}.micro_batch_size={size} need "
        f"{gib(needs)} of memory or more, and {what} has {gib(there)}; "
        f"{_remedy(params, stage, device, there)}"
    )


def _remedy(params: Params, stage: str, device: str, there: int) -> str:
    """The largest micro-batch that fits as expected, with recomputing where it must be."""
    for mode in dict.fromkeys((params.launch.recompute, "full")):
        size = getattr(params, stage).micro_batch_size // 2
        while size:
            memory = memory_of(params, stage, device, micro_batch_size=size, recompute=mode)
            if expected_bytes(params, memory, device) <= there:
                also = "" if mode == params.launch.recompute else f" and launch.recompute={mode}"
                return f"{stage}.micro_batch_size={size}{also} would fit"
            size //= 2
    return "take a smaller model (`llm depth`), or more devices (section launch)"
