"""What a sweep is asked to do: the fields of the flow's form, and the rules that span them."""

import json
import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from llm.config.base import Section

MOST_POINTS = 500
DIGITS = 3  # significant, of a drawn number: what a person would write and a table can show


class Range(BaseModel):
    """An interval to draw from: whole numbers when both ends are."""

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

    def draw(self, share: float) -> int | float:
        """The number at `share`, 0 to 1, of the way from low to high."""
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        low, high = self.low, self.high + whole  # the upper end as likely as the others
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        if whole:
            return min(int(self.high), int(value))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Values = Annotated[list[Any], Field(min_length=1)]
Space = Annotated[
    dict[str, Values | Range],
    Field(
        title="Space",
        description="Dotted keys of params.yaml, each with a list of values or, for random, "
        'a range: {"pretrain.optim.lr": {"low": 1e-3, "high": 1e-2, "log": true}, '
        '"model.n_layer": [2, 4]}',
    ),
]
Metric = Annotated[
    str,
    Field(
        title="Metric",
        description="STAGE/KEY: the key as `dvc metrics show` has it in metrics/STAGE.json, "
        "e.g. pretrain/val/bpb or benchmark/sft.exact_match",
        pattern=r"^[a-z]+/.+$",
    ),
]
Goal = Annotated[Literal["min", "max"], Field(title="Goal", description="What is better")]
Method = Annotated[
    Literal["grid", "random", "seeds"],
    Field(
        title="Method",
        description="grid: every combination; random: draws from the space; "
        "seeds: every combination again and again with other seeds",
    ),
]
Samples = Annotated[
    PositiveInt | None,
    Field(title="Samples", description="Points to draw (random) or seeds per point (seeds)"),
]
Seed = Annotated[
    int, Field(title="Seed", description="Of the draws (random); the first one (seeds)", ge=0)
]
SeedSections = Annotated[
    list[str],
    Field(
        title="Seed sections",
        description="For seeds: whose `seed` changes; empty: every stage's that runs",
    ),
]
AtOnce = Annotated[PositiveInt, Field(title="At once", description="Runs side by side")]
RegisterBest = Annotated[
    bool,
    Field(
        title="Register the best",
        description="Then run the whole chain on the best point: a version in the registry",
    ),
]
SkipImpossible = Annotated[
    bool,
    Field(
        title="Skip impossible points",
        description="Leave out points that params.yaml's rules refuse, instead of refusing all",
    ),
]
StageTimeout = Annotated[
    PositiveFloat | None,
    Field(title="Stage timeout", description="Seconds after which a point's stage is ended"),
]


class Plan(Section):
    """What a sweep was asked to do."""

    metric: Metric
    goal: Goal
    method: Method
    space: Space
    samples: Samples
    seed: Seed
    seed_sections: SeedSections
    preset: str | None
    upto: str
    at_once: AtOnce
    skip_impossible: SkipImpossible
    register_best: RegisterBest
    stage_timeout_s: StageTimeout

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
