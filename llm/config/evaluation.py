"""Sections of the evaluation stages: benchmark and judge."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.align import SamplingConfig
from llm.config.base import Section


class BenchmarkConfig(Section):
    """lm-eval tasks run for base, sft and dpo."""

    tasks: list[str] = Field(min_length=1)  # names of the YAML files in evals/tasks
    limit: PositiveInt  # items per task, at most
    batch_size: PositiveInt  # sequences per forward
    max_new_tokens: PositiveInt  # of generated answers
    device: Literal["auto", "cpu", "cuda"]
    seed: NonNegativeInt


class JudgeConfig(Section):
    """Pairwise comparison of sft and dpo answers, each pair in both orders."""

    judge: Literal["reward", "openai"]
    base_url: str  # of an OpenAI-compatible endpoint; the key is read from OPENAI_API_KEY
    model: str  # its model name
    reply_tokens: PositiveInt  # the longest reply of an endpoint; a cut one is counted unparsed
    timeout_s: PositiveFloat  # of one request
    retries: NonNegativeInt  # of a request that failed or timed out
    concurrency: PositiveInt  # requests under way at once
    prompts: PositiveInt  # held-out conversations to answer, evenly over kinds; also held-out pairs
    sampling: SamplingConfig
    batch_size: PositiveInt
    device: Literal["auto", "cpu", "cuda"]
    seed: NonNegativeInt
