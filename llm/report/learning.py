"""How the models learnt: gradient norms by layer, and what they wrote on the way."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from llm.config.paths import Paths
from llm.files import read_jsonl
from llm.report import charts
from llm.report.facts import Curve

NORM = "train/grad_norm/"
WRITERS = ("pretrain", "sft", "dpo")
MOST_STEPS = 5  # of one prompt's texts that are shown


def norm_charts(curves: Mapping[str, Curve]) -> list[dict[str, Any]]:
    """A picture per stage whose curve has gradient norms by layer."""
    shown = []
    for stage, curve in curves.items():
        if rows := norms(curve):
            layers = len({row["layer"] for row in rows})
            least, most = (end(row["norm"] for row in rows) for end in (min, max))
            text = (
                f"Gradient norms of {stage} by layer over the steps: {layers} layers, "
                f"{least:.2g} to {most:.2g}."
            )
            shown.append({"stage": stage, "svg": Markup(charts.heat_chart(rows, text))})
    return shown


def norms(curve: Curve) -> list[dict[str, Any]]:
    """Rows of step, layer, norm."""
    return [
        {"step": row["step"], "layer": key.removeprefix(NORM), "norm": value}
        for row in curve
        for key, value in row.items()
        if key.startswith(NORM)
    ]


def written(paths: Paths) -> list[dict[str, Any]]:
    """Per stage and prompt the texts of a few steps, evenly chosen, the first and the last among them."""
    found = []
    for stage in WRITERS:
        by_prompt: dict[str, list[Mapping[str, Any]]] = {}
        for row in read_jsonl(paths.samples(stage), ("step", "prompt", "text")):
            by_prompt.setdefault(row["prompt"], []).append(row)
        for prompt, rows in by_prompt.items():
            found.append({"stage": stage, "prompt": prompt, "texts": evenly(rows, MOST_STEPS)})
    return found


def evenly(rows: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the rows, evenly spread from the first to the last."""
    if len(rows) <= most:
        return list(rows)
    return [rows[round(n * (len(rows) - 1) / (most - 1))] for n in range(most)]
