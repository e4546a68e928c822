"""How text is drawn from a model, and what is drawn while it learns."""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from llm.config.base import Section


class SamplingConfig(Section):
    """How an answer is drawn."""

    temperature: NonNegativeFloat
    """0 is greedy."""
    top_k: NonNegativeInt
    """Draw among the k likeliest tokens; 0 cuts nothing."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Draw among the likeliest tokens up to this probability; 1 cuts nothing."""
    max_new_tokens: PositiveInt
    """Less than model.block_size."""


class SamplesConfig(Section):
    """What the model writes while it learns; drawing it changes nothing of the training."""

    interval: NonNegativeInt
    """Steps between samples, and once more at the end; 0 draws none."""
    prompts: list[str]
    """Texts that pretraining's model continues, or questions that a later one answers."""
    sampling: SamplingConfig
    """How they are drawn, by the stage's seed."""
