"""Two or more runs on one page: what differs in params and metrics, and every curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from markupsafe import Markup

from llm.report.charts import thin, ticks, to_svg
from llm.report.page import page_template

COLOURS = ("#3f87cf", "#e07b2e", "#5aa469", "#b3569f", "#8b93a1", "#c2a02d")  # by run
WIDTH, HEIGHT = 240, 190  # px, of a plotting area

Lines = Mapping[str, Sequence[tuple[float, float]]]  # run -> (step, value)


def render_comparison(
    runs: Sequence[str],
    params: Mapping[str, Sequence[str]],
    metrics: Mapping[str, Sequence[str]],
    curves: Mapping[str, Lines],
) -> str:
    """One HTML file that asks for nothing else; what a param or a name says is escaped."""
    colours = {run: COLOURS[n % len(COLOURS)] for n, run in enumerate(runs)}
    return page_template("comparison.html").render(
        title=" beside ".join(runs),
        runs=runs,
        colours=colours,
        params=params,
        metrics=metrics,
        charts=[_shown(title, lines, colours) for title, lines in curves.items()],
    )


def _shown(title: str, lines: Lines, colours: Mapping[str, str]) -> dict[str, Any]:
    said = ", ".join(f"{run} {points[-1][1]:.4g}" for run, points in lines.items())
    text = f"{title} over the steps, a line per run; at the end {said}."
    svg = comparison_chart(title.partition(": ")[2], lines, colours, text)
    return {"title": title, "svg": Markup(svg), "note": f"At the end: {said}"}


def comparison_chart(y_title: str, lines: Lines, colours: Mapping[str, str], alt_text: str) -> str:
    """A line per run over the step."""
    rows = [
        {"run": run, **row}
        for run, points in lines.items()
        for row in thin([{"step": step, "value": value} for step, value in points])
    ]
    scale = alt.Scale(domain=list(lines), range=[colours[run] for run in lines])
    chart = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=1.8, opacity=0.9)
    chart = chart.encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(tickCount=3, format=",d")),
        y=alt.Y("value:Q", title=y_title, scale=alt.Scale(zero=False), axis=ticks()),
        color=alt.Color("run:N", scale=scale, legend=None),  # the page has it once for all
    )
    return to_svg(chart.properties(width=WIDTH, height=HEIGHT), alt_text)
