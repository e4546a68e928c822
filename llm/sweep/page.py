"""A sweep's page: one file that asks for nothing else, in the report's style.

What a param or an error says is escaped: it can add no markup.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llm.report.page import TEMPLATES, duration
from llm.sweep.charts import (
    curves_chart,
    parallel_chart,
    scatter_chart,
    seeds_chart,
    standings,
    swept_keys,
)
from llm.sweep.plan import Plan, shown
from llm.sweep.results import COMPLETED, Curve, Group, Row, best_group, best_row, groups

OWN_TEMPLATES = Path(__file__).parent / "templates"
METHODS = {"grid": "every combination", "random": "drawn at random", "seeds": "repeated"}
BETTER = {"min": "lower is better", "max": "higher is better"}
LOSSES = ("val/loss", "train/loss")


def render_sweep(name: str, plan: Plan, rows: Sequence[Row], skipped: Sequence[str]) -> str:
    """The page: what was tried, what came of it, and how the points compare."""
    scored = [row for row in rows if row.value is not None]
    return _template().render(
        title=f"Sweep {name}",
        plan=plan,
        method=METHODS[plan.method],
        better=BETTER[plan.goal],
        preset=plan.preset or "params.yaml as committed",
        keys=list(dict.fromkeys(key for row in rows for key in row.point.overrides)),
        tiles=_tiles(plan, rows),
        rows=[_shown_row(row, plan, best_row(rows, plan.goal)) for row in rows],
        groups=_shown_groups(plan, rows),
        charts=_charts(plan, rows) if scored else [],
        skipped=skipped,
    )


def figure(value: float | None, stderr: float | None = None) -> str:
    """A value in five digits, with its standard error in two."""
    if value is None:
        return ""
    return f"{value:.5g}" + (f" ± {stderr:.2g}" if stderr is not None else "")


def curve_column(metric_stage: str, metric: str, stage: str, curves: Sequence[Curve]) -> str | None:
    """What to draw of a stage: the sweep's own metric where its curve is a line, else a loss."""
    own = metric.partition("/")[2] if stage == metric_stage else LOSSES[0]
    columns = dict.fromkeys((own, *LOSSES))
    lengths = {
        column: max(sum(column in row for row in curve) for curve in curves) for column in columns
    }
    lines = [column for column, length in lengths.items() if length > 2]
    return next(iter([*lines, *(column for column, length in lengths.items() if length)]), None)


def _tiles(plan: Plan, rows: Sequence[Row]) -> list[dict[str, str]]:
    best, group = best_row(rows, plan.goal), best_group(rows, plan.goal)
    values = [each.mean for each in groups(rows) if each.mean is not None]
    done = sum(row.state == COMPLETED for row in rows)
    seconds = [row.seconds for row in rows if row.seconds is not None]
    tiles = []
    if best and group:
        tiles += [
            {
                "name": f"best {plan.metric}, {BETTER[plan.goal]}",
                "value": figure(group.mean, group.stderr),
                "note": _best_note(best, group),
            },
            {
                "name": "from the best to the last",
                "value": f"{max(values) - min(values):.3g}",
                "note": f"{min(values):.5g} to {max(values):.5g}",
            },
        ]
    states = {row.state: sum(each.state == row.state for each in rows) for row in rows}
    others = ", ".join(f"{count} {state}" for state, count in states.items() if state != COMPLETED)
    tiles.append(
        {
            "name": "points completed",
            "value": f"{done} of {len(rows)}",
            "note": others or (f"{duration(sum(seconds))} summed" if seconds else "all"),
        }
    )
    return tiles


def _best_note(best: Row, group: Group) -> str:
    if len(group.rows) == 1:
        return f"point {best.point.number}: {best.point}"
    return f"{group}; mean of {len(group.scores)} seeds"


def _shown_row(row: Row, plan: Plan, best: Row | None) -> dict[str, Any]:
    return {
        "number": row.point.number,
        "best": row is best,
        "overrides": {key: shown(value) for key, value in row.point.overrides.items()},
        "value": figure(row.value, row.stderr),
        "state": row.state,
        "failed": row.value is None and row.note != "",
        "time": "" if row.seconds is None else duration(row.seconds),
        "branch": row.branch or "",
        "run_url": row.run_url,
        "mlflow_url": row.mlflow_url,
        "note": row.note,
    }


def _shown_groups(plan: Plan, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For seeds: means, and how far each is behind the best, in standard errors."""
    best = best_group(rows, plan.goal)
    if plan.method != "seeds" or best is None or best.mean is None:
        return []
    found = []
    for group in groups(rows):
        behind = "no result" if group.mean is None else "the best"
        if group.mean is not None and group is not best and group.values != best.values:
            error = ((group.stderr or 0) ** 2 + (best.stderr or 0) ** 2) ** 0.5
            away = (
                f"{abs(group.mean - best.mean) / error:.1f} standard errors"
                if error
                else "no spread"
            )
            behind = f"{abs(group.mean - best.mean):.2g} behind ({away})"
        found.append(
            {"values": str(group), "n": len(group.scores), "behind": behind}
            | {"mean": figure(group.mean, group.stderr)}
        )
    return found


def _charts(plan: Plan, rows: Sequence[Row]) -> list[dict[str, Any]]:
    keys, better = swept_keys(rows), BETTER[plan.goal]
    said = "; ".join(
        f"{row.point}: {figure(row.value, row.stderr) or row.state}" for row in rows[:50]
    )
    shown_charts = []
    if plan.method == "seeds":
        text = f"{plan.metric} per seed, means with standard errors. {said}."
        shown_charts.append(_chart("Means over seeds", seeds_chart(rows, plan, text)))
    if keys:
        text = f"Parallel coordinates: each point's params and {plan.metric}, {better}. {said}."
        shown_charts.append(_chart("Params and metric", parallel_chart(rows, plan, text)))
    shown_charts += _curve_charts(plan, rows)
    for key in keys:
        text = f"{plan.metric} over {key}, a dot per run. {said}."
        shown_charts.append(_chart(f"Over {key}", scatter_chart(rows, key, plan, text)))
    return shown_charts


def _curve_charts(plan: Plan, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Per stage whose curve differs between points: a line per point."""
    stands = standings(rows, plan.goal)
    found = []
    for stage in dict.fromkeys(stage for row in rows for stage in row.curves):
        curves = {row.point.number: row.curves[stage] for row in rows if stage in row.curves}
        distinct = list(curves.values())
        column = curve_column(plan.metric_stage, plan.metric, stage, distinct)
        if column is None or (len(distinct) > 1 and all(each == distinct[0] for each in distinct)):
            continue  # the swept params come after this stage
        ends = {number: [row for row in curve if column in row] for number, curve in curves.items()}
        said = ", ".join(
            f"point {number} {end[-1][column]:.4g}" for number, end in ends.items() if end
        )
        text = f"{column} of {stage} over the steps, a line per point; at the end {said}."
        found.append(_chart(f"{stage}: {column}", curves_chart(curves, column, stands, text)))
    return found


def _chart(title: str, svg: str) -> dict[str, Any]:
    return {"title": title, "svg": Markup(svg)}


def _template():
    environment = Environment(
        loader=FileSystemLoader([OWN_TEMPLATES, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return environment.get_template("sweep.html")
