"""What other stages than benchmark have to know of section benchmark."""

from pydantic import Field

from llm.config.base import Section


class TaskNames(Section, extra="ignore"):
    """Of section `benchmark` only what is run."""

    tasks: list[str] = Field(min_length=1)
    """Names of tasks: of the YAML files in evals/tasks, or lm-eval's own."""
