"""`llm compare`: params, metrics and learning curves of runs side by side, wherever they are kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm.cli.found import Curves, Found, curves_beside, find_results
from llm.cli.plot import plot
from llm.cli.terminal import terminal
from llm.errors import ConfigError

VALUE_WIDTH = 40

Runs = Annotated[
    list[str],
    typer.Argument(
        help="Branches (calm-hare is run/calm-hare), commits, `.` for this checkout, versions "
        "(3, candidate, models:/llm/3), names or ids of MLflow runs.",
        show_default=False,
    ),
]


def compare(
    runs: Runs,
    everything: Annotated[bool, typer.Option("--all", "-a", help="What is equal as well.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page with all curves.", metavar="FILE")
    ] = None,
) -> None:
    """Show in which params runs differ, every metric beside the first run's, and the learning curves."""
    if len(runs) < 2:
        raise ConfigError("llm compare needs two runs or more; `.` is this checkout")
    found = {name: find_results(name) for name in runs}
    params = _rows([(each.params, each.is_part) for each in found.values()], everything)
    metrics = _rows([(each.metrics, each.is_part) for each in found.values()], everything)
    if as_json:
        print(json.dumps({"runs": list(found), "params": params, "metrics": metrics}))  # noqa: T201
        return
    console = terminal()
    cells = {key: [value or "" for value in values] for key, values in params.items()}
    _print(console, "param", list(found), cells, "the params are equal")
    figures = {key: _beside_first(values) for key, values in metrics.items()}
    _print(console, "metric", list(found), figures, "the metrics are equal, or there are none")
    curves = curves_beside(found)
    if html is not None:
        _write_page(html, found, params, metrics, curves)
        console.print(f"wrote {html}")
        return
    for title, lines in _headline(curves).items():
        console.print(plot(title, lines))


def _headline(curves: Curves) -> Curves:
    """One per stage: of those that most runs have the first, a loss on held-out data before others."""
    best: dict[str, str] = {}
    for title, lines in curves.items():
        stage = title.partition(":")[0]
        if stage not in best or len(lines) > len(curves[best[stage]]):
            best[stage] = title
    return {title: curves[title] for title in best.values()}


def _write_page(
    path: Path,
    found: Mapping[str, Found],
    params: Mapping[str, list[Any]],
    metrics: Mapping[str, list[Any]],
    curves: Curves,
) -> None:
    from llm.files import write_text
    from llm.report.comparison import render_comparison

    figures = {key: _beside_first(values) for key, values in metrics.items()}
    cells = {key: [value or "" for value in values] for key, values in params.items()}
    write_text(path, render_comparison(list(found), cells, figures, curves))


def _rows(
    sides: Sequence[tuple[Mapping[str, Any], bool]], everything: bool
) -> dict[str, list[Any]]:
    """Per key every side's value, None where it has none; those that differ, or all."""
    keys = dict.fromkeys(key for side, _ in sides for key in side)
    shared = [key for key in keys if all(key in side for side, is_part in sides if is_part)]
    rows = {key: [side.get(key) for side, _ in sides] for key in shared}
    return {
        key: values
        for key, values in rows.items()
        if everything or any(value != values[0] for value in values)
    }


def _beside_first(values: Sequence[float | None]) -> list[str]:
    """The figures, and how far each is from the first."""
    first = values[0]
    shown = ["" if value is None else f"{value:.6g}" for value in values]
    for index, value in enumerate(values[1:], 1):
        if value is not None and first is not None and value != first:
            shown[index] += f" ({value - first:+.3g})"
    return shown


def _print(
    console: Console, kind: str, names: list[str], rows: Mapping[str, list[str]], nothing: str
) -> None:
    if not rows:
        console.print(nothing)
        return
    table = Table(box=SIMPLE_HEAD)
    table.add_column(kind, overflow="fold")
    for name in names:
        table.add_column(escape(name), justify="right", overflow="fold", max_width=VALUE_WIDTH)
    for key, values in rows.items():
        table.add_row(escape(key), *map(escape, values))
    console.print(table)
