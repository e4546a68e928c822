"""What every training stage shares, and the sections `launch` and `pretrain`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class LaunchConfig(Section):
    """Processes of a training stage; more than one starts torchrun and DDP."""

    nproc_per_node: PositiveInt
    """Processes on this machine."""


class OptimConfig(Section):
    """AdamW with decoupled decay, linear warm-up, cosine decay, gradient clipping."""

    lr: PositiveFloat
    """Peak learning rate."""
    min_lr_frac: Fraction
    """Final learning rate as a share of the peak."""
    warmup_frac: Fraction
    """Share of the steps."""
    weight_decay: NonNegativeFloat
    """On matrices only."""
    beta1: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the mean gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)]
    """Decay of the mean squared gradient."""
    grad_clip: PositiveFloat
    """Largest global norm."""


class TrainConfig(Section):
    """One training run of the shared loop."""

    init_from: str
    """A published Hugging Face folder to start from, with its tokenizer; empty: pretraining starts
    from random weights, another stage from the model before it."""
    optim: OptimConfig
    """Optimizer and schedule."""
    precision: Literal["fp32", "bf16", "fp16"]
    """Of the matrix products; weights stay fp32."""
    device: Literal["auto", "cpu", "cuda"]
    """auto: cuda where there is one."""
    compile: bool
    """Compile the network before training; pays off in long runs."""
    micro_batch_size: PositiveInt
    """Sequences (or pairs) per rank and forward."""
    eval_interval: PositiveInt
    """Steps between validations."""
    eval_batches: PositiveInt
    """Micro-batches per validation."""
    checkpoint_interval: PositiveInt
    """Steps between checkpoints."""
    log_interval: PositiveInt
    """Steps between progress lines."""
    seed: NonNegativeInt
    """Of new weights and of the order of batches."""


class PretrainConfig(TrainConfig):
    """Next-token prediction on the corpus."""

    document_mask: bool
    """In a block of several documents, each sees itself alone and counts its positions from 0."""
    batch_tokens: PositiveInt
    """Tokens per step over all ranks; a multiple of ranks x micro_batch_size x block_size."""
    max_tokens: PositiveInt
    """Tokens of the whole run."""
