"""Charts as inline SVG, for light and dark pages, a phone's width, and screen readers.

Text takes the page's colour (currentColor), series take mid-tones, and a chart is no wider
than a phone, so that the page can stack charts instead of shrinking them. The same values
give the same bytes.
"""

import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert

Row = Mapping[str, Any]

WIDTH, CURVE_WIDTH = 205, 170  # of the plotting area, px; labels come on top
MOST_POINTS = 200  # of one line
MOST_COLUMNS = 60  # of one heat map
INK = "currentColor"
GRID = "#88888840"
PALETTE = {
    "base": "#8b93a1",
    "sft": "#3f87cf",
    "dpo": "#e07b2e",
    "train": "#8b93a1",
    "validation": "#3f87cf",
    "documents": "#3f87cf",
}


def bar_chart(rows: Sequence[Row], alt_text: str) -> str:
    """Horizontal bars of `documents` per `stage`, in the given order, each with its `label`."""
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows]))
    most = max(row["documents"] for row in rows)
    x = alt.X("documents:Q", scale=alt.Scale(domain=[0, most * 1.6]), axis=None)
    y = alt.Y("stage:N", sort=None, title=None)
    bars = chart.mark_bar(color=PALETTE["documents"], cornerRadiusEnd=2).encode(x=x, y=y)
    text = chart.mark_text(align="left", dx=5, color=INK).encode(x=x, y=y, text="label:N")
    layers = alt.layer(bars, text, width=WIDTH, height=34 * len(rows))
    return to_svg(layers, alt_text)


def curve_chart(rows: Sequence[Row], y_title: str, alt_text: str) -> str:
    """Lines of `value` over `step`, one per `series`: train, validation."""
    names = list(dict.fromkeys(row["series"] for row in rows))
    thinned = [row for name in names for row in thin([r for r in rows if r["series"] == name])]
    chart = alt.Chart(alt.Data(values=thinned))
    encoding = {
        "x": alt.X("step:Q", title="step", axis=alt.Axis(tickCount=3, format=",d")),
        "y": alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False), axis=ticks()),
        "color": _colour("series", names),
    }
    lines = chart.mark_line(strokeWidth=1.8).encode(**encoding)
    few = chart.transform_filter("datum.series != 'train'")  # one validation is no line
    points = few.mark_point(filled=True, size=28, opacity=1).encode(**encoding)
    return to_svg(alt.layer(lines, points, width=CURVE_WIDTH, height=150), alt_text)


def heat_chart(rows: Sequence[Row], alt_text: str) -> str:
    """A cell per `layer` and `step`, coloured by the logarithm of its `norm`."""
    steps = sorted({row["step"] for row in rows})
    stride = -(-len(steps) // MOST_COLUMNS)
    kept = set(steps[::-stride])  # the last one always
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows if row["step"] in kept]))
    marks = chart.mark_rect().encode(
        x=alt.X("step:O", title="step", axis=_sparse_ticks(sorted(kept))),
        y=alt.Y("layer:N", title=None, sort=layers),
        color=alt.Color(
            "norm:Q",
            scale=alt.Scale(type="log", scheme="viridis"),
            legend=alt.Legend(title=None, orient="top", gradientLength=WIDTH, format="~g"),
        ),
    )
    return to_svg(marks.properties(width=WIDTH, height=max(80, 18 * len(layers))), alt_text)


def score_chart(rows: Sequence[Row], x_title: str, alt_text: str) -> str:
    """Per `task` and `model` a point at `score` with its interval `low` to `high`."""
    chart = alt.Chart(alt.Data(values=[dict(row) for row in rows]))
    models = list(dict.fromkeys(row["model"] for row in rows))
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    zero = all(row["high"] <= 1 for row in rows)
    scale = alt.Scale(domain=[0, 1]) if zero else alt.Scale(zero=False, nice=True)
    y = alt.Y("task:N", sort=tasks, title=None)
    offset = alt.YOffset("model:N", sort=models, scale=alt.Scale(domain=models, paddingOuter=0.4))
    colour = _colour("model", models)
    bars = chart.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=x_title, scale=scale, axis=ticks()),
        x2="high:Q",
        y=y,
        yOffset=offset,
        color=colour,
    )
    points = chart.mark_point(filled=True, size=45, opacity=1).encode(
        x=alt.X("score:Q", scale=scale), y=y, yOffset=offset, color=colour
    )
    layers = alt.layer(bars, points, width=WIDTH, height=58 * len(tasks))
    return to_svg(layers, alt_text)


def thin(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Every n-th row and the last, so that a long run draws as fast as a short one."""
    stride = -(-len(rows) // MOST_POINTS)
    return [dict(row) for i, row in enumerate(rows) if i % stride == 0 or i == len(rows) - 1]


def _colour(field: str, names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=[PALETTE[name] for name in names])
    return alt.Color(f"{field}:N", scale=scale, legend=alt.Legend(title=None, orient="top"))


def _sparse_ticks(steps: Sequence[float]) -> alt.Axis:
    """An axis that names at most four of the steps."""
    stride = -(-len(steps) // 4)
    return alt.Axis(values=list(steps[::-stride]), format=",d", labelAngle=0)


def ticks() -> alt.Axis:
    """An axis of a few ticks."""
    return alt.Axis(tickCount=5)


def to_svg(chart: alt.Chart | alt.LayerChart | alt.FacetChart, alt_text: str) -> str:
    """The chart as an SVG element that names itself and may be placed beside others in one page."""
    chart = chart.configure(
        background="transparent",
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            labelColor=INK,
            titleColor=INK,
            domainColor=GRID,
            tickColor=GRID,
            gridColor=GRID,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=130,
        ),
        legend=alt.LegendConfig(labelColor=INK, labelFontSize=12, symbolStrokeWidth=3),
        text=alt.MarkConfig(fontSize=12),
        font="Arial, Helvetica, Liberation Sans, sans-serif",  # one width, so that labels fit
        padding={"left": 10, "right": 12, "top": 4, "bottom": 4},
    )
    return _labelled(vl_convert.vegalite_to_svg(chart.to_dict(validate=False)), alt_text)


def _labelled(svg: str, alt_text: str) -> str:
    """One image for assistive technology; ids renumbered, since the renderer counts on and on."""
    ids: dict[str, str] = {}
    prefix = "c" + hashlib.sha256(alt_text.encode()).hexdigest()[:8]

    def renamed(match: re.Match[str]) -> str:
        return ids.setdefault(match[0], f"{prefix}-{len(ids)}")

    svg = re.sub(r"\b(?:clip|gradient_)\d+\b", renamed, svg)
    label = html.escape(alt_text, quote=True)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
