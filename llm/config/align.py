"""Sections of the alignment stages: instructions, sft, preferences, reward, dpo."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Section
from llm.config.train import TrainConfig

Kind = Literal["import", "parameters", "default", "type", "summary"]


class InstructionsConfig(Section):
    """Conversations derived from the documentation, split by top-level object."""

    kinds: list[Kind] = Field(min_length=1)
    train_per_kind: PositiveInt  # at most
    test_per_kind: PositiveInt  # at most, from the held-out documents
    max_prompt_characters: PositiveInt
    extra: list[str]  # further JSONL files of conversations, Alpaca or ShareGPT rows, for training
    seed: NonNegativeInt


class SamplingConfig(Section):
    """How an answer is drawn. temperature 0 is greedy; top_k 0 and top_p 1 cut nothing."""

    temperature: NonNegativeFloat
    top_k: NonNegativeInt
    top_p: Annotated[float, Field(gt=0, le=1)]
    max_new_tokens: PositiveInt


class SftConfig(TrainConfig):
    """Supervised fine-tuning on the assistant's turns."""

    epochs: PositiveInt
    batch_sequences: PositiveInt  # conversations per step over all ranks


class PreferencesConfig(Section):
    """Pairs: the reference answer is chosen, a wrong or worse sample of the sft model rejected."""

    prompts: PositiveInt  # training conversations to sample for, evenly over kinds
    samples_per_prompt: PositiveInt
    sampling: SamplingConfig
    test_frac: Annotated[float, Field(gt=0, lt=1)]  # share of prompts whose pairs are held out
    extra: list[str]  # further JSONL files of pairs, UltraFeedback or HH rows, for training
    seed: NonNegativeInt


class RewardConfig(TrainConfig):
    """Bradley-Terry reward model, from the sft model with a scalar head."""

    epochs: PositiveInt
    batch_pairs: PositiveInt  # per step over all ranks


class DpoConfig(TrainConfig):
    """Direct preference optimisation."""

    beta: PositiveFloat  # strength of the pull towards the reference model
    epochs: PositiveInt
    batch_pairs: PositiveInt
