"""What every training stage shares, and the sections `launch` and `pretrain`."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from llm.config.base import Section
from llm.config.sampling import SamplesConfig

Fraction = Annotated[float, Field(ge=0, le=1)]


class LaunchConfig(Section):
    """Processes of a training stage; more than one start under torchrun."""

    parallel: Literal["ddp", "fsdp", "hybrid", "tensor"]
    """ddp: each process has the whole model; fsdp: a part of every weight (FSDP2); hybrid: a part
    within its group, and each group a copy; tensor: a part of every matrix within its group
    (heads, features, vocabulary), and FSDP2 over the groups."""
    nodes: PositiveInt
    """Machines; more than one meet at the address in LLM_RENDEZVOUS."""
    nproc_per_node: PositiveInt
    """Processes on each machine: GPUs, as a rule."""
    group_ranks: PositiveInt
    """hybrid, tensor: processes of a group, as a rule those of a machine; 1 with ddp and fsdp."""
    recompute: Literal["none", "selective", "full"]
    """Activations that backward computes again instead of keeping them: none, all but matrix products
    and attention, or all of a block."""

    @property
    def processes(self) -> int:
        return self.nodes * self.nproc_per_node

    @property
    def data_ranks(self) -> int:
        """Processes, or tensor groups, that read different micro-batches."""
        return self.processes // (self.group_ranks if self.parallel == "tensor" else 1)

    @model_validator(mode="after")
    def _check_groups(self) -> Self:
        grouped = self.parallel in ("hybrid", "tensor")
        if not grouped and self.group_ranks != 1:
            raise ValueError(
                f"group_ranks={self.group_ranks} goes with parallel=hybrid or tensor; "
                f"with {self.parallel} it is 1"
            )
        if grouped and (self.group_ranks == 1 or self.processes % self.group_ranks):
            raise ValueError(
                f"group_ranks={self.group_ranks} must be 2 or more with parallel={self.parallel}, "
                f"and divide the {self.processes} processes (nodes x nproc_per_node)"
            )
        return self


class OptimConfig(Section):
    """Optimizer with decoupled decay, schedule after a linear warm-up, gradient clipping."""

    optimizer: Literal["adamw", "muon"]
    """muon: Muon for the matrices of the blocks, AdamW for the rest. The four gates of an LSTM are one
    matrix to it, which serves as well as one each (benchmarks/RESULTS.md)."""
    lr: PositiveFloat
    """Peak learning rate of AdamW."""
    muon_lr: PositiveFloat
    """Peak learning rate of Muon."""
    muon_momentum: Annotated[float, Field(ge=0, lt=1)]
    """Decay of Muon's mean gradient."""
    schedule: Literal["cosine", "wsd", "constant", "linear"]
    """After the warm-up: half a cosine; stable, then a line down; constant; a line down."""
    min_lr_frac: Fraction
    """Final learning rate as a share of the peak; not of a constant one."""
    warmup_frac: Fraction
    """Share of the steps in which the rate rises."""
    decay_frac: Fraction
    """wsd: share of the steps, at the end, in which the rate falls."""
    weight_decay: NonNegativeFloat
    """On matrices only."""
    beta1: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the mean gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the mean squared gradient."""
    grad_clip: PositiveFloat
    """Largest global norm."""
    nonfinite: Literal["stop", "skip"]
    """What a step does whose loss or gradient is not finite; the weights stay as they are."""
    skip_sigma: NonNegativeFloat
    """Skip a step whose loss or gradient norm is this many deviations above the mean of the recent
    ones; 0 skips none."""
    skip_window: Annotated[int, Field(ge=2)]
    """How many steps are the recent ones; the first so many are never skipped."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.schedule == "wsd" and self.warmup_frac + self.decay_frac > 1:
            raise ValueError(
                f"warmup_frac={self.warmup_frac} and decay_frac={self.decay_frac} overlap: "
                "their sum must be at most 1"
            )
        return self


class CheckpointConfig(Section):
    """When the run in progress is written to disk, which of it is kept, and which is the result."""

    steps: NonNegativeInt
    """Steps between checkpoints; 0: by minutes alone."""
    minutes: NonNegativeFloat
    """Minutes after which the next step makes one as well; 0: by steps alone."""
    keep_last: PositiveInt
    """How many of the newest are kept; of more than one, a damaged one can be done without."""
    keep_best: NonNegativeInt
    """How many of the lowest val/loss are made and kept besides."""
    result: Literal["last", "best"]
    """Weights that the stage writes: the last step's, or those of the lowest val/loss."""

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if not self.steps and not self.minutes:
            raise ValueError("steps=0 and minutes=0 would make no checkpoint; give either")
        if self.result == "best" and not self.keep_best:
            raise ValueError("result=best needs keep_best=1 or more, not 0")
        return self


class ProfileConfig(Section):
    """Steps whose operators torch's profiler traces; the trace changes no result."""

    first_step: PositiveInt
    """The first traced step, counted from 1; later ones than a few are past the warm-up."""
    n_steps: NonNegativeInt
    """How many steps are traced; 0 traces none."""


class TrainConfig(Section):
    """One training run of the shared loop."""

    init_from: str
    """A published Hugging Face folder to start from, with its tokenizer; empty: pretraining starts
    from random weights, another stage from the model before it."""
    optim: OptimConfig
    """Optimizer and schedule."""
    precision: Literal["fp32", "bf16", "bf16_weights", "fp16", "float8"]
    """Of the network's arithmetic; weights and optimizer state stay fp32. bf16_weights: the blocks'
    weights and gradients are bf16 too, with fp32 masters that the optimizer updates. float8: the
    products of the blocks, on Hopper with torchao, and bf16 for the rest."""
    device: Literal["auto", "cpu", "cuda"]
    """auto: cuda where there is one."""
    compile: Literal["auto", "on", "off"]
    """Compile the network before training. auto: on a GPU, and on a CPU when the run is so long that
    it pays off."""
    micro_batch_size: PositiveInt
    """Sequences (or pairs) per rank and forward."""
    eval_interval: PositiveInt
    """Steps between validations."""
    eval_batches: PositiveInt
    """Micro-batches per validation."""
    checkpoint: CheckpointConfig
    """What an interrupted run goes on from."""
    log_interval: PositiveInt
    """Steps between progress lines."""
    grad_norm_interval: NonNegativeInt
    """Steps between gradient norms by layer; 0 logs none."""
    profile: ProfileConfig
    """Which steps are traced."""
    seed: NonNegativeInt
    """Of new weights and of the order of batches."""

    @property
    def in_bf16(self) -> bool:
        """Whether the blocks' weights are bf16 themselves, beside fp32 masters."""
        return self.precision == "bf16_weights"


class PretrainConfig(TrainConfig):
    """Next-token prediction on the corpus."""

    zero_outputs: bool
    """The last matrix of every sub-layer starts at 0: every block starts as the identity. An LSTM has
    none such, and starts as always."""
    z_loss: NonNegativeFloat
    """Weight of log²(sum of exp(logits)), which keeps logits near 0; 0 is none."""
    document_mask: bool
    """In a block of several documents, each sees itself alone and counts its positions from 0."""
    packing: Literal["concatenate", "best_fit"]
    """How documents fill blocks. concatenate: their stream is cut every block_size tokens; best_fit:
    none is cut that fits a block, and little is padded."""
    packing_window: PositiveInt
    """best_fit: neighbouring documents that are packed together."""
    samples: SamplesConfig
    """Texts while it learns."""
    batch_tokens: PositiveInt
    """Tokens per step over all ranks; a multiple of ranks x micro_batch_size x block_size."""
    max_tokens: PositiveInt
    """Tokens of the whole run, as far as they fill steps of batch_tokens."""
