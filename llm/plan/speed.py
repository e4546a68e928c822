"""How long a step takes: measured here (llm.trial), or of a GPU as its data sheet has it."""

from dataclasses import dataclass

from llm.config.params import Params
from llm.errors import ConfigError
from llm.plan.machine import Machine
from llm.plan.numbers import GIB
from llm.plan.work import work

MFU = (
    0.4  # share of a GPU's peak; 0.46 in PaLM (Chowdhery et al. 2022, table 3), less at small sizes
)


@dataclass(frozen=True)
class Speed:
    """Seconds on one device, nothing else running."""

    step_s: float  # all micro-batches of a rank, and the update
    eval_s: float  # of a micro-batch that is only looked at


@dataclass(frozen=True)
class Gpu:
    """As NVIDIA's data sheets have it: memory, and dense products per second."""

    memory_gib: int
    bf16_tflops: float
    fp32_tflops: float


GPUS = {
    "a100-40": Gpu(40, 312, 19.5),
    "a100-80": Gpu(80, 312, 19.5),
    "h100": Gpu(80, 989, 67),
    "h200": Gpu(141, 989, 67),
    "b200": Gpu(180, 2250, 75),
    "l40s": Gpu(48, 362, 91.6),
    "l4": Gpu(24, 121, 30.3),
    "rtx3090": Gpu(24, 71, 35.6),
    "rtx4090": Gpu(24, 165, 82.6),
}


def known_gpu(name: str) -> Gpu:
    """ConfigError when no data sheet of it is here."""
    if name not in GPUS:
        raise ConfigError(f"--gpu {name}: no such GPU is known; there are {', '.join(GPUS)}")
    return GPUS[name]


def machine_with(gpu: Gpu, params: Params) -> Machine:
    """One that has as many of it as params ask for, and memory that is not asked about."""
    return Machine(2**62, (gpu.memory_gib * GIB,) * params.launch.nproc_per_node)


def assumed_speed(gpu: Gpu, params: Params, stage: str) -> Speed:
    """Of a training stage on as many GPUs as params have."""
    tflops = gpu.fp32_tflops if getattr(params, stage).precision == "fp32" else gpu.bf16_tflops
    each = work(params, stage)
    step_s = each.flops / each.steps / (tflops * 1e12 * MFU * params.launch.processes)
    return Speed(step_s, step_s / (3 * each.micros))
