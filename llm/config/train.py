"""What every training stage shares, and the sections `launch` and `pretrain`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Section

Fraction = Annotated[float, Field(ge=0, le=1)]


class LaunchConfig(Section):
    """Processes of a training stage; more than one starts torchrun and DDP."""

    nproc_per_node: PositiveInt


class OptimConfig(Section):
    """AdamW with decoupled decay, linear warm-up, cosine decay, gradient clipping."""

    lr: PositiveFloat  # peak
    min_lr_frac: Fraction  # final learning rate as a share of the peak
    warmup_frac: Fraction  # share of the steps
    weight_decay: NonNegativeFloat  # on matrices only
    beta1: Annotated[float, Field(ge=0, lt=1)]
    beta2: Annotated[float, Field(ge=0, lt=1)]
    grad_clip: PositiveFloat  # global norm


class TrainConfig(Section):
    """One training run of the shared loop."""

    optim: OptimConfig
    precision: Literal["fp32", "bf16", "fp16"]  # of the matrix products; weights stay fp32
    device: Literal["auto", "cpu", "cuda"]  # auto: cuda where there is one
    compile: bool
    micro_batch_size: PositiveInt  # sequences (or pairs) per rank and forward
    eval_interval: PositiveInt  # steps between validations
    eval_batches: PositiveInt  # micro-batches per validation
    checkpoint_interval: PositiveInt  # steps between checkpoints
    log_interval: PositiveInt  # steps between progress lines
    seed: NonNegativeInt


class PretrainConfig(TrainConfig):
    """Next-token prediction on the corpus."""

    batch_tokens: PositiveInt  # tokens per step over all ranks
    max_tokens: PositiveInt  # tokens of the whole run
