"""The points of a sweep, all checked before any of them runs.

A point is values of dotted keys of params.yaml. Grid: every combination of the listed
values. Random: draws from lists and ranges. Seeds: every combination again and again with
other seeds, so that a difference can be told from luck. The points depend on nothing but
the plan; more samples keep the points that fewer would have given, so that a longer sweep
takes those from the cache.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from llm.config.base import value_at
from llm.config.presets import apply_overrides
from llm.errors import ConfigError
from llm.sweep.plan import Plan, identity, shown

TRIES = 50  # draws per new point before the space counts as exhausted


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    number: int  # from 1
    values: Mapping[str, Any]  # of the space
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def overrides(self) -> dict[str, Any]:
        """All that differs from the preset: dotted key to value."""
        return {**self.values, **self.seeds}

    def __str__(self) -> str:
        return ", ".join(f"{key}={shown(value)}" for key, value in self.overrides.items())


def points_of(plan: Plan, params: Mapping[str, Any], stages: Iterable[str]) -> list[Point]:
    """The plan's points, in order, in a project with these params whose `stages` run.

    Raises ConfigError when the plan does not fit the params, or the space has too few points.
    """
    if plan.method == "random":
        return [Point(number, values) for number, values in enumerate(_drawn(plan, params), 1)]
    lists = [values for values in plan.space.values() if isinstance(values, list)]
    combinations = [
        dict(zip(plan.space, chosen, strict=True)) for chosen in itertools.product(*lists)
    ]
    if plan.method == "grid":
        return [Point(number, values) for number, values in enumerate(combinations, 1)]
    keys = seed_keys(plan, params, stages)
    assert plan.samples is not None
    seeds = range(plan.seed, plan.seed + plan.samples)
    repeated = itertools.product(combinations, seeds)
    return [
        Point(number, values, dict.fromkeys(keys, seed))
        for number, (values, seed) in enumerate(repeated, 1)
    ]


def seed_keys(plan: Plan, params: Mapping[str, Any], stages: Iterable[str]) -> list[str]:
    """`SECTION.seed` of the plan's sections, or of every stage's that runs and has one."""
    sections = [name for name, values in params.items() if isinstance(values, Mapping)]
    having = [name for name in sections if "seed" in params[name]]
    if wrong := [name for name in plan.seed_sections if name not in having]:
        raise ConfigError(
            f"seed_sections: {', '.join(map(repr, wrong))} of params.yaml has no seed; "
            f"those that have: {', '.join(having)}"
        )
    stages = set(stages)
    named = plan.seed_sections or [name for name in having if name in stages]
    keys = [f"{name}.seed" for name in named]
    if both := [key for key in keys if key in plan.space]:
        raise ConfigError(
            f"space: method='seeds' sets {', '.join(both)} itself; leave it out of the space, "
            "or name other sections in seed_sections"
        )
    if not keys:
        raise ConfigError(f"method='seeds': no stage up to {plan.upto} has a seed")
    return keys


def possible(points: list[Point], text: str, *, skip: bool) -> tuple[list[Point], list[str]]:
    """The points that make valid params of params.yaml's `text`, and why each other one does not.

    Raises ConfigError with every reason when there is one and not `skip`, when a key is
    not in params.yaml, or when no point is left.
    """
    kept, refused = [], []
    for point in points:
        try:
            apply_overrides(text, point.overrides)
        except ConfigError as error:
            if str(error).startswith("overrides: no key"):  # the same for every point
                raise ConfigError(str(error).replace("overrides:", "space:")) from None
            refused.append((point, str(error)))
        else:
            kept.append(point)
    if refused and (not skip or not kept):
        raise ConfigError(
            f"{len(refused)} of {len(points)} points are impossible:\n"
            + "\n".join(_grouped(refused))
            + ("\nchange the space, or set skip_impossible" if kept else "\nchange the space")
        )
    return kept, list(_grouped(refused))


def _grouped(refused: list[tuple[Point, str]]) -> Iterator[str]:
    """Every broken rule once, with the points that break it."""
    by_rule: dict[str, list[Point]] = {}
    for point, reason in refused:
        for rule in reason.splitlines():
            by_rule.setdefault(rule, []).append(point)
    for rule, points in by_rule.items():
        numbers = ", ".join(str(point.number) for point in points)
        example = f"{points[0]}" if len(points) == 1 else f"the first: {points[0]}"
        yield f"point {numbers} ({example}): {rule}"


def _drawn(plan: Plan, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Different points of the space; ConfigError when it has not as many."""
    assert plan.samples is not None
    found: dict[str, dict[str, Any]] = {}
    for index in range(plan.samples * TRIES):
        point = {key: _draw(plan, params, key, index) for key in plan.space}
        found.setdefault(identity(point), point)
        if len(found) == plan.samples:
            return list(found.values())
    raise ConfigError(
        f"samples={plan.samples}: the space gave only {len(found)} different points; "
        "take fewer samples, or method='grid'"
    )


def _draw(plan: Plan, params: Mapping[str, Any], key: str, index: int) -> Any:
    """Each key and index has a generator of its own: further keys or samples change no draw."""
    share = Random(f"{plan.seed}/{index}/{key}").random()
    values = plan.space[key]
    if isinstance(values, list):
        return values[int(share * len(values))]
    ends = isinstance(values.low, int) and isinstance(values.high, int)
    whole = ends and not isinstance(value_at(params, key), float)  # 0 to 1 of a float is no choice
    return values.draw(share, whole=whole)
