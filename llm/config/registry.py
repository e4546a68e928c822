"""Sections of the last stages: report and register."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from llm.config.base import Section
from llm.config.sampling import SamplingConfig


class ReportConfig(Section):
    """The run's page and cards."""

    title: str
    """Headline of the page."""
    samples_per_kind: PositiveInt
    """Questions shown per kind, with every model's answer."""
    sampling: SamplingConfig
    """Of the base model's continuations."""
    seed: NonNegativeInt
    """Of the documents that are continued, and of the continuations."""


class RegisterConfig(Section):
    """The MLflow registry entry."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    """Registered model."""
    alias: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """That the new version gets."""
    select_by: str
    """Key of metrics/benchmark.json per model, higher is better, e.g. exact_match."""
    weights: Literal["upload", "reference"]
    """upload: MLflow stores the weights; reference: their md5s, and DVC's cache or remote has them."""
