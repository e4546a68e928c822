"""Sections of the last stages: report and register."""

from pydantic import Field, NonNegativeInt, PositiveInt

from llm.config.align import SamplingConfig
from llm.config.base import Section


class ReportConfig(Section):
    """The run's page and cards."""

    title: str
    samples_per_kind: PositiveInt
    sampling: SamplingConfig  # of the base model's continuations
    seed: NonNegativeInt


class RegisterConfig(Section):
    """The MLflow registry entry."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")  # registered model
    alias: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")  # that the new version gets
    select_by: str  # key of metrics/benchmark.json per model, higher is better, e.g. exact_match
