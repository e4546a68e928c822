"""Sections of the evaluation stages: benchmark and judge."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Address, Section
from llm.config.sampling import SamplingConfig
from llm.config.tasks import TaskNames


class BenchmarkConfig(TaskNames, extra="forbid"):
    """lm-eval tasks run for base, sft and dpo."""

    limit: PositiveInt
    """Items per task, at most."""
    batch_size: PositiveInt
    """Sequences per forward."""
    max_new_tokens: PositiveInt
    """Of generated answers; less than model.block_size."""
    device: Literal["auto", "cpu", "cuda"]
    """auto: cuda where there is one."""
    seed: NonNegativeInt
    """Of lm-eval, and of the order of items."""


class JudgeConfig(Section):
    """Pairwise comparison of sft and dpo answers, each pair in both orders."""

    judge: Literal["reward", "openai"]
    """The pipeline's own reward model, or a model behind an OpenAI-compatible endpoint."""
    base_url: Address
    """Of the endpoint; its key is read from OPENAI_API_KEY."""
    model: str
    """The endpoint's model name."""
    reply_tokens: PositiveInt
    """The longest reply of an endpoint; a cut one is counted unparsed."""
    timeout_s: PositiveFloat
    """Of one request."""
    retries: NonNegativeInt
    """Of a request that failed or timed out."""
    concurrency: PositiveInt
    """Requests under way at once."""
    prompts: PositiveInt
    """Held-out conversations to answer, evenly over kinds; also held-out pairs."""
    sampling: SamplingConfig
    """How answers are drawn."""
    batch_size: PositiveInt
    """Sequences per forward."""
    device: Literal["auto", "cpu", "cuda"]
    """auto: cuda where there is one."""
    seed: NonNegativeInt
    """Of the choice of prompts and pairs, and of the interval."""
