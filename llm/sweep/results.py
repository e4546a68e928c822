"""What came of a sweep's points: one row per point, means over seeds, and the best."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm.sweep.plan import Goal, Plan, identity, shown
from llm.sweep.points import Point

WAITING, RUNNING, COMPLETED = "waiting", "running", "completed"

Curve = list[dict[str, float]]  # rows by step; a value that was not measured has no key


@dataclass
class Row:
    """A point and its run, as far as it has come."""

    point: Point
    state: str = WAITING  # then as Prefect calls it, in lower case
    value: float | None = None  # of the sweep's metric
    stderr: float | None = None  # of the value, where the stage measured one
    branch: str | None = None
    run_url: str | None = None  # Prefect's page of the run
    mlflow_run: str | None = None  # id of the pipeline's run
    mlflow_url: str | None = None
    seconds: float | None = None
    note: str = ""  # why there is no value
    curves: dict[str, Curve] = field(default_factory=dict)  # by stage


@dataclass(frozen=True)
class Group:
    """The points that differ in nothing but their seeds."""

    values: Mapping[str, Any]
    rows: list[Row]

    def __str__(self) -> str:
        values = ", ".join(f"{key}={shown(value)}" for key, value in self.values.items())
        return values or "as in params.yaml"

    @property
    def scores(self) -> list[float]:
        """The values there are."""
        return [row.value for row in self.rows if row.value is not None]

    @property
    def mean(self) -> float | None:
        """Over seeds."""
        return statistics.fmean(self.scores) if self.scores else None

    @property
    def stderr(self) -> float | None:
        """Standard error of the mean over seeds; of one value alone, what the stage measured."""
        if len(self.scores) > 1:
            return statistics.stdev(self.scores) / math.sqrt(len(self.scores))
        return self.rows[0].stderr if len(self.rows) == 1 else None


def groups(rows: Iterable[Row]) -> list[Group]:
    """The rows by their values of the space, in order of appearance."""
    found: dict[str, Group] = {}
    for row in rows:
        key = identity(dict(row.point.values))
        found.setdefault(key, Group(row.point.values, [])).rows.append(row)
    return list(found.values())


def best_group(rows: Iterable[Row], goal: Goal) -> Group | None:
    """The group with the best mean; the first of equals, None when there is no value."""
    scored = [(group.mean, group) for group in groups(rows) if group.mean is not None]
    sign = 1 if goal == "min" else -1
    return min(scored, key=lambda pair: sign * pair[0])[1] if scored else None


def best_row(rows: Iterable[Row], goal: Goal) -> Row | None:
    """The best run of the best group."""
    if (group := best_group(rows, goal)) is None:
        return None
    scored = [(row.value, row) for row in group.rows if row.value is not None]
    sign = 1 if goal == "min" else -1
    return min(scored, key=lambda pair: sign * pair[0])[1]


def find_metric(metrics: Mapping[str, float], name: str) -> tuple[float, float | None] | None:
    """The metric called `name` and its standard error, where it is beside it; None without one.

    A key that no stage wrote as such may have slashes for DVC's dots.
    """
    key = name if name in metrics else _alike(metrics, name)
    if key is None:
        return None
    beside = (f"{key}_stderr", f"{key.rpartition('.')[0]}.stderr")
    return metrics[key], next((metrics[each] for each in beside if each in metrics), None)


def table(rows: Iterable[Row], plan: Plan) -> list[dict[str, Any]]:
    """One flat row per point, as an artifact or a spreadsheet shows it; figures are rounded."""
    rows = list(rows)
    best = best_row(rows, plan.goal)
    error = any(row.stderr is not None for row in rows)
    return [
        {
            "point": row.point.number,
            "best": "★" if row is best else "",
            **row.point.overrides,
            plan.metric: _rounded(row.value, 6),
            **({"±": _rounded(row.stderr, 2)} if error else {}),
            "state": row.state,
            "seconds": _rounded(row.seconds, 3),
            "branch": row.branch,
            "mlflow": row.mlflow_url,
            "run": row.run_url,
            "note": row.note,
        }
        for row in rows
    ]


def record(name: str, plan: Plan, rows: Iterable[Row], skipped: list[str]) -> dict[str, Any]:
    """The whole sweep as JSON, but for the curves."""
    rows = list(rows)
    best = best_row(rows, plan.goal)
    return {
        "name": name,
        "plan": plan.model_dump(),
        "best": best.point.number if best else None,
        "groups": [
            {"values": dict(group.values), "n": len(group.scores)}
            | {"mean": group.mean, "stderr": group.stderr}
            for group in groups(rows)
        ],
        "rows": [
            {"point": row.point.number, "values": dict(row.point.values)}
            | {"seeds": dict(row.point.seeds)}
            | {key: value for key, value in vars(row).items() if key not in ("point", "curves")}
            for row in rows
        ],
        "skipped": skipped,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _alike(metrics: Mapping[str, float], name: str) -> str | None:
    """The one key that is `name` but for dots and slashes."""
    found = [key for key in metrics if key.replace(".", "/") == name.replace(".", "/")]
    return found[0] if len(found) == 1 else None
