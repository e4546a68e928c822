"""What a sweep is asked to do, and the rules that span its fields."""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    model_validator,
)

from llm.config.base import Section

MOST_POINTS = 500
DIGITS = 3  # significant, of a drawn number: what a person would write and a table can show


class Range(BaseModel):
    """An interval to draw from."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: int | float
    high: int | float
    log: bool = False  # evenly in the logarithm

    @model_validator(mode="after")
    def _check_ends(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} must be less than high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} must be greater than 0 for log: true")
        return self

    def draw(self, share: float, *, whole: bool) -> int | float:
        """The number at `share`, 0 to 1, of the way from low to high; a whole one if asked."""
        low, high = self.low, self.high + whole  # the upper end as likely as the others
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        if whole:
            return min(int(self.high), int(value))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Values = Annotated[list[Any], Field(min_length=1)]
Space = Annotated[dict[str, Values | Range], WithJsonSchema({"type": "object"})]
Metric = Annotated[str, Field(pattern=r"^[a-z]+/.+$")]
Goal = Literal["min", "max"]
Method = Literal["grid", "random", "seeds"]


class Plan(Section):
    """What a sweep was asked to do; the flow's form says what each field means."""

    metric: Metric
    goal: Goal
    method: Method
    space: Space
    samples: PositiveInt | None
    seed: NonNegativeInt
    seed_sections: list[str]
    preset: str | None
    upto: str
    at_once: PositiveInt
    skip_impossible: bool
    register_best: bool
    stage_timeout_s: PositiveFloat | None

    @property
    def metric_stage(self) -> str:
        """The stage whose metric is compared."""
        return self.metric.partition("/")[0]

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Rules that span fields, all broken ones at once."""
        if broken := [*self._space_errors(), *self._method_errors()]:
            raise ValueError("\n".join(broken))
        return self

    def _space_errors(self) -> Iterator[str]:
        for key, values in self.space.items():
            if isinstance(values, Range):
                if self.method != "random":
                    yield f"space: {key!r} is a range; method={self.method!r} needs a list of values"
            elif len({identity(value) for value in values}) < len(values):
                yield f"space: {key!r} has a value twice: {json.dumps(values)}"
            for other in self.space:
                if other.startswith(f"{key}."):
                    yield f"space: {key!r} and {other!r} overlap; choose one"

    def _method_errors(self) -> Iterator[str]:
        if not self.space and self.method != "seeds":
            yield f"space: method={self.method!r} needs at least one key of params.yaml"
        if self.samples is None and self.method != "grid":
            yield f"samples: method={self.method!r} needs a number"
        if self.samples is not None and self.method == "grid":
            yield "samples: a grid has all combinations; leave samples empty"
        if self.seed_sections and self.method != "seeds":
            yield f"seed_sections: method={self.method!r} changes no seeds; leave it empty"
        lists = [len(values) for values in self.space.values() if isinstance(values, list)]
        count = {
            "grid": math.prod(lists),
            "random": self.samples or 0,
            "seeds": math.prod(lists) * (self.samples or 0),
        }[self.method]
        if count > MOST_POINTS:
            yield f"{count} points are more than {MOST_POINTS}; take fewer values or samples"


def identity(value: Any) -> str:
    """The same text for the same value; 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


def shown(value: Any) -> str:
    """A param's value as a table shows it."""
    return value if isinstance(value, str) else json.dumps(value)
