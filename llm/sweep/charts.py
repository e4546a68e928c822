"""The charts of a sweep, in the report's style: where each point lies, and what came of it.

Points are told apart by how they stand: the best, the better half, the others, and those
without a result. The parallel coordinates lie on their side, an axis per row, so that any
number of params fits a phone.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from llm.report.charts import INK, thin, ticks, to_svg
from llm.sweep.plan import Goal, Plan, identity, shown
from llm.sweep.results import Curve, Row, best_row, groups

STANDINGS = {
    "best": "#e07b2e",
    "better half": "#3f87cf",
    "others": "#8b93a1",
    "no result": "#b3372f",
}
WIDTH, ROW_HEIGHT = 290, 62  # px, of the plotting area, and of one axis in it
LOG_RATIO = 30  # a param that spans more is drawn in its logarithm
CHARACTER = 6.8  # px, of a label at most
EDGE = 0.08  # labels nearer to an end of the axis are aligned with it
MOST_LABELS = 12  # points whose number is written beside them
LABEL_CHARACTERS = 16
HALO = "var(--card)"  # of the page: behind text that lines cross


@dataclass(frozen=True)
class Axis:
    """Where a param's values lie, 0 to 1, and what is written where."""

    name: str
    places: Mapping[str, float]  # by the value's identity
    labels: Sequence[tuple[float, str]]


def standings(rows: Sequence[Row], goal: Goal) -> dict[int, str]:
    """How each point stands, by its number."""
    best = best_row(rows, goal)
    values = [row.value for row in rows if row.value is not None]
    ordered = sorted(values, reverse=goal == "max")
    better = set(ordered[: (len(ordered) + 1) // 2])
    found = {}
    for row in rows:
        if row.value is None:
            found[row.point.number] = "no result"
        elif row is best:
            found[row.point.number] = "best"
        else:
            found[row.point.number] = "better half" if row.value in better else "others"
    return found


def swept_keys(rows: Sequence[Row]) -> list[str]:
    """The params of the space that differ between points."""
    keys = dict.fromkeys(key for row in rows for key in row.point.values)
    return [key for key in keys if len({identity(row.point.values.get(key)) for row in rows}) > 1]


def axis_of(name: str, values: Sequence[Any]) -> Axis:
    """Numbers by size, in their logarithm when they span much; anything else evenly."""
    distinct = {identity(value): value for value in values}
    numbers = [value for value in distinct.values() if _is_number(value)]
    if len(numbers) < len(distinct):
        step = 1 / max(1, len(distinct) - 1)
        places = {key: index * step for index, key in enumerate(distinct)}
    elif len(distinct) == 1:
        places = dict.fromkeys(distinct, 0.5)
    else:
        low, high = _scaled(min(numbers), numbers), _scaled(max(numbers), numbers)
        places = {
            key: (_scaled(value, numbers) - low) / (high - low) for key, value in distinct.items()
        }
    return Axis(name, places, _labels(places, distinct))


def parallel_chart(rows: Sequence[Row], plan: Plan, alt_text: str) -> str:
    """A line per point through its params' values down to the metric."""
    keys = swept_keys(rows)
    axes = [axis_of(key, [row.point.values[key] for row in rows]) for key in keys]
    scored = [row.value for row in rows if row.value is not None]
    better = "lower is better" if plan.goal == "min" else "higher is better"
    axes.append(axis_of(f"{plan.metric} ({better})", scored or [0]))
    stands = standings(rows, plan.goal)
    lines = []
    for row in rows:
        values = [*(row.point.values[key] for key in keys), row.value]
        for index, (axis, value) in enumerate(zip(axes, values, strict=True)):
            if value is not None or index < len(keys):
                place = axis.places[identity(value)]
                stand = stands[row.point.number]
                lines.append({"x": place, "y": index, "point": row.point.number, "stands": stand})
    names = [{"x": 0, "x2": 1, "y": index, "text": axis.name} for index, axis in enumerate(axes)]
    labels = [
        {"x": place, "y": index, "text": text}
        for index, axis in enumerate(axes)
        for place, text in axis.labels
    ]
    x = alt.X("x:Q", scale=alt.Scale(domain=[0, 1]), axis=None)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[len(axes) - 0.6, -0.4]), axis=None)
    layers = [
        _chart(names).mark_rule(stroke=INK, opacity=0.5).encode(x=x, x2="x2:Q", y=y),
        *_by_standing(
            lines,
            lambda chart, stand: _line(chart, stand).encode(
                x=x, y=y, detail="point:N", order="y:Q", color=_colour(lines)
            ),
        ),
        *_text(names, x, y, align="left", dy=-11, fontWeight="bold"),
    ]
    for side in ("left", "center", "right"):
        if at_side := [label for label in labels if _side(label["x"]) == side]:
            layers += _text(at_side, x, y, align=side, dy=13)
    return to_svg(alt.layer(*layers, width=WIDTH, height=ROW_HEIGHT * len(axes)), alt_text)


def curves_chart(
    curves: Mapping[int, Curve], column: str, stands: Mapping[int, str], alt_text: str
) -> str:
    """A line per point: `column` over the step."""
    drawn = [
        {"step": row["step"], "value": row[column], "point": number, "stands": stands[number]}
        for number, curve in curves.items()
        for row in thin([row for row in curve if column in row])
    ]
    x = alt.X("step:Q", title="step", axis=alt.Axis(tickCount=3, format=",d"))
    y = alt.Y("value:Q", title=column, scale=alt.Scale(zero=False), axis=ticks())
    layers = _by_standing(
        drawn,
        lambda chart, stand: _line(chart, stand).encode(
            x=x, y=y, detail="point:N", color=_colour(drawn)
        ),
    )
    return to_svg(alt.layer(*layers, width=WIDTH - 50, height=190), alt_text)


def scatter_chart(rows: Sequence[Row], key: str, plan: Plan, alt_text: str) -> str:
    """A point per run: the metric over one param, whatever the other params are."""
    stands = standings(rows, plan.goal)
    scored = [row for row in rows if row.value is not None]
    values = [row.point.values[key] for row in scored]
    drawn = [
        {"x": value if _is_number(value) else shown(value), "y": row.value}
        | {"number": str(row.point.number), "stands": stands[row.point.number]}
        for row, value in zip(scored, values, strict=True)
    ]
    if all(_is_number(value) for value in values):
        kind = "log" if _is_wide(values) else "linear"
        scale = alt.Scale(type=kind, zero=False, nice=kind == "linear", padding=12)
        axis = alt.Axis(values=_places(values), format="~g", tickCount=5)
        x = alt.X("x:Q", title=key, scale=scale, axis=axis)
    else:
        x = alt.X("x:N", title=key, sort=None, axis=alt.Axis(labelAngle=0))
    y = alt.Y("y:Q", title=plan.metric, scale=alt.Scale(zero=False, padding=10), axis=ticks())
    layers = _by_standing(
        drawn,
        lambda chart, stand: chart.mark_point(filled=True, size=60, opacity=0.9).encode(
            x=x, y=y, color=_colour(drawn)
        ),
    )
    if len(drawn) <= MOST_LABELS:
        numbers = _chart(drawn).mark_text(dx=9, dy=-7, color=INK, fontSize=11)
        layers.append(numbers.encode(x=x, y=y, text="number:N"))
    return to_svg(alt.layer(*layers, width=WIDTH - 50, height=170), alt_text)


def seeds_chart(rows: Sequence[Row], plan: Plan, alt_text: str) -> str:
    """Per combination: each seed's value, and the mean with its standard error."""
    drawn, means = [], []
    for index, group in enumerate(groups(rows)):
        mean, stderr = group.mean, group.stderr or 0.0
        drawn += [{"x": score, "y": index} for score in group.scores]
        if mean is not None:
            text = f"{group}: {mean:.5g} ± {stderr:.2g} (n={len(group.scores)})"
            means.append({"x": mean, "low": mean - stderr, "high": mean + stderr, "y": index})
            means[-1]["text"] = text
    x = alt.X("x:Q", title=plan.metric, scale=alt.Scale(zero=False, padding=12), axis=ticks())
    last = max((mean["y"] for mean in means), default=0)
    y = alt.Y("y:Q", scale=alt.Scale(domain=[last + 0.4, -0.6]), axis=None)
    colour = STANDINGS["better half"]
    base = _chart(means)
    layers = alt.layer(
        _chart(drawn)
        .mark_point(filled=True, size=30, opacity=0.6, color=STANDINGS["others"])
        .encode(x=x, y=y),
        base.mark_rule(strokeWidth=2.5, color=colour).encode(
            x=alt.X("low:Q", title=plan.metric), x2="high:Q", y=y
        ),
        base.mark_point(filled=True, size=70, opacity=1, color=colour).encode(x=x, y=y),
        base.mark_text(align="left", dy=-15, color=INK, limit=WIDTH).encode(
            x=alt.value(0), y=y, text="text:N"
        ),
        width=WIDTH,
        height=48 * (last + 1),
    )
    return to_svg(layers, alt_text)


def _places(values: Sequence[float]) -> Any:
    """Where an axis has ticks: at few values all, of what spans much the powers of ten."""
    distinct = sorted(set(values))
    if len(distinct) <= 3 or (len(distinct) <= 5 and not _is_wide(values)):
        return distinct
    if not _is_wide(values):
        return alt.Undefined
    powers = range(math.ceil(math.log10(distinct[0])), math.floor(math.log10(distinct[-1])) + 1)
    return [10.0**power for power in powers]


def _side(place: float) -> str:
    """How a label at the place is aligned, so that it stays within the chart."""
    if place < EDGE:
        return "left"
    return "right" if place > 1 - EDGE else "center"


def _chart(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    return alt.Chart(alt.Data(values=[dict(row) for row in rows]))


def _text(
    rows: Sequence[Mapping[str, Any]], x: alt.X, y: alt.Y, *, align: Any, dy: int, **style: Any
) -> list[alt.Chart]:
    """Text, and under it a halo in the page's colour, since lines cross it."""
    halo = {"stroke": HALO, "strokeWidth": 4, "strokeJoin": "round", "fill": HALO}
    return [
        _chart(rows)
        .mark_text(align=align, dy=dy, **look, **style)
        .encode(x=x, y=y, text=alt.Text("text:N"))
        for look in (halo, {"color": INK})
    ]


def _by_standing(rows: Sequence[Mapping[str, Any]], draw: Any) -> list[alt.Chart]:
    """A layer per standing, the best on top."""
    return [
        draw(_chart(chosen), stand)
        for stand in reversed(STANDINGS)
        if (chosen := [row for row in rows if row["stands"] == stand])
    ]


def _line(chart: alt.Chart, stand: str) -> alt.Chart:
    best = stand == "best"
    dash = [4, 3] if stand == "no result" else [1, 0]
    return chart.mark_line(
        strokeWidth=2.6 if best else 1.4, opacity=1 if best else 0.65, strokeDash=dash
    )


def _colour(rows: Sequence[Mapping[str, Any]]) -> alt.Color:
    """One legend, whatever a layer holds: the standings that occur."""
    found = {row["stands"] for row in rows}
    present = [stand for stand in STANDINGS if stand in found]
    scale = alt.Scale(domain=present, range=[STANDINGS[stand] for stand in present])
    legend = alt.Legend(title=None, orient="top", columns=2 if len(present) > 3 else 0)
    return alt.Color("stands:N", scale=scale, legend=legend)


def _labels(places: Mapping[str, float], values: Mapping[str, Any]) -> list[tuple[float, str]]:
    """The ends, and in between what has room."""
    ordered = sorted(places, key=lambda key: places[key])
    kept: list[tuple[float, str]] = []
    for key in dict.fromkeys([ordered[0], ordered[-1], *ordered]):
        label = places[key], _short(values[key])
        if all(_is_apart(label, other) for other in kept):
            kept.append(label)
    return kept


def _is_apart(one: tuple[float, str], other: tuple[float, str]) -> bool:
    """Whether two labels leave a character's room between them."""
    (a, b), (c, d) = _extent(*one), _extent(*other)
    return max(a, c) - min(b, d) >= CHARACTER / WIDTH


def _extent(place: float, text: str) -> tuple[float, float]:
    """From where to where a label reaches, as shares of the axis."""
    width = len(text) * CHARACTER / WIDTH
    start = {"left": place, "center": place - width / 2, "right": place - width}[_side(place)]
    return start, start + width


def _short(value: Any) -> str:
    text = _figure(value) if _is_number(value) else shown(value)
    return text if len(text) <= LABEL_CHARACTERS else text[: LABEL_CHARACTERS - 1] + "…"


def _figure(value: float) -> str:
    """Four digits, small numbers by their exponent: 0.0025, 1.86e-4."""
    if 0 < abs(value) < 1e-3:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(exponent)}"
    return f"{value:.4g}"


def _scaled(value: float, numbers: Sequence[float]) -> float:
    return math.log(value) if _is_wide(numbers) else value


def _is_wide(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_RATIO


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
