"""Sections of the alignment stages: instructions, sft, preferences, reward, dpo."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Section
from llm.config.sampling import SamplesConfig, SamplingConfig
from llm.config.train import TrainConfig

Kind = Literal["import", "parameters", "default", "type", "summary"]


class InstructionsConfig(Section):
    """Conversations derived from the documentation, split by top-level object."""

    kinds: list[Kind] = Field(min_length=1)
    """What is asked about an object."""
    train_per_kind: PositiveInt
    """Conversations at most."""
    test_per_kind: PositiveInt
    """Conversations at most, from the held-out documents."""
    max_prompt_characters: PositiveInt
    """Longer questions are left out."""
    extra: list[str]
    """Further JSONL files of conversations, Alpaca or ShareGPT rows, for training."""
    seed: NonNegativeInt
    """Of how a question is phrased."""


class SftConfig(TrainConfig):
    """Supervised fine-tuning on the assistant's turns."""

    z_loss: NonNegativeFloat
    """Weight of log²(sum of exp(logits)), which keeps logits near 0; 0 is none."""
    packing: Literal["pad", "best_fit"]
    """A sequence is pad: a conversation, padded to the longest of its batch; best_fit: a block of
    several, none cut, each seeing itself alone."""
    packing_window: PositiveInt
    """best_fit: conversations that are packed together."""
    samples: SamplesConfig
    """Answers while it learns."""
    epochs: PositiveInt
    """Passes over the conversations."""
    batch_sequences: PositiveInt
    """Sequences per step over all ranks; a multiple of ranks x micro_batch_size."""


class PreferencesConfig(Section):
    """Pairs: the reference answer is chosen, a wrong or worse sample of the sft model rejected."""

    prompts: PositiveInt
    """Training conversations to sample for, evenly over kinds."""
    samples_per_prompt: PositiveInt
    """Answers drawn per conversation."""
    sampling: SamplingConfig
    """How answers are drawn."""
    test_frac: Annotated[float, Field(gt=0, lt=1)]
    """Share of prompts whose pairs are held out."""
    extra: list[str]
    """Further JSONL files of pairs, UltraFeedback or HH rows, for training."""
    seed: NonNegativeInt
    """Of which prompts are held out, and of the answers."""


class RewardConfig(TrainConfig):
    """Bradley-Terry reward model, from the sft model with a scalar head."""

    epochs: PositiveInt
    """Passes over the pairs."""
    batch_pairs: PositiveInt
    """Pairs per step over all ranks; a multiple of ranks x micro_batch_size."""


class DpoConfig(TrainConfig):
    """Direct preference optimisation."""

    beta: PositiveFloat
    """Strength of the pull towards the reference model."""
    samples: SamplesConfig
    """Answers while it learns."""
    epochs: PositiveInt
    """Passes over the pairs."""
    batch_pairs: PositiveInt
    """Pairs per step over all ranks; a multiple of ranks x micro_batch_size."""
