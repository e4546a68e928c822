"""Rows of a sweep as its runs would fill them."""

from collections.abc import Sequence

from llm.sweep.plan import Plan
from llm.sweep.points import points_of
from llm.sweep.results import COMPLETED, Curve, Row


def rows_of(plan: Plan, values: Sequence[float | None], sections: Sequence[str] = ()) -> list[Row]:
    """The plan's points with these values; None failed."""
    params = {name: {"seed": 1} for name in sections}
    points = points_of(plan, params, sections)
    rows = []
    for point, value in zip(points, values, strict=True):
        row = Row(point, "failed" if value is None else COMPLETED, value)
        row.branch = f"run/calm-hare-{point.number}"
        row.note = "no such luck" if value is None else ""
        row.curves = {} if value is None else {"pretrain": curve(value)}
        rows.append(row)
    return rows


def curve(end: float) -> Curve:
    """Falls to `end` in 40 steps, validated every ten."""
    rows: Curve = []
    for step in range(1, 41):
        row = {"step": float(step), "train/loss": end + 1 / step}
        rows.append(row | ({"val/loss": end} if step % 10 == 0 else {}))
    return rows
