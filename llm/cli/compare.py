"""`llm compare`: params and metrics of runs side by side, wherever the runs are kept."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import read_yaml, value_at
from llm.config.params import PARAMS
from llm.errors import ConfigError, TrackingError
from llm.git import succeeds

if TYPE_CHECKING:
    from mlflow.entities import Run

OF_THE_STAGE = ("system/", "timings/")  # of a stage's own run in MLflow: no result
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
) -> None:
    """Show in which params runs differ, and every metric beside the first run's."""
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


class Found(NamedTuple):
    """The results of one run."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    is_part: bool = False  # of a single stage: what it lacks, the others have for themselves


def find_results(name: str) -> Found:
    """The results of whatever goes by the name; ConfigError says where it was looked for."""
    from llm.tracking.results import files_at, files_of, read_results

    if name == ".":
        return Found(*read_results(files_of(Path.cwd())))
    for revision in (name, f"run/{name}"):
        if succeeds(Path.cwd(), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
            return Found(*read_results(files_at(Path.cwd(), revision)))
    missing = []
    for find in (_version_results, _run_results):
        try:
            return find(name)
        except (ConfigError, TrackingError) as error:
            missing.append(str(error))
    raise ConfigError(
        f"nothing goes by the name {name!r}: no branch, no commit; {'; '.join(missing)}"
    )


def _version_results(name: str) -> Found:
    """What stage `register` has kept with a version."""
    from llm.registry.versions import LOCK_FILE, PARAMS_FILE
    from llm.tracking.results import read_results

    registry = _registry()
    model = value_at(read_yaml(PARAMS), "register.name") or "llm"
    version = registry.find(name, model)
    kept = {"params.yaml": PARAMS_FILE, "dvc.lock": LOCK_FILE}

    def read(path: str) -> str | None:
        try:
            file = registry.files(version, kept.get(path, f"metrics/{Path(path).name}"))
        except TrackingError:
            return None  # `register` itself has no metrics yet when the version is kept
        return file.read_text(encoding="utf-8")

    results = read_results(read)
    if not results.params:
        raise TrackingError(f"{version.uri} keeps no params.yaml")
    return Found(*results)


def _run_results(name: str) -> Found:
    """A run in MLflow: a pipeline's, or a stage's under the pipeline's names."""
    run = _find_run(name)
    stage = run.data.tags.get("stage")
    prefix = f"{stage}/" if stage else ""
    metrics = {
        f"{prefix}{key}": value
        for key, value in run.data.metrics.items()
        if not key.startswith(OF_THE_STAGE)
    }
    return Found(run.data.params, metrics, is_part=stage is not None)


def _find_run(name: str) -> "Run":
    """By id, or the latest with the name."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    from llm.tracking.runs import EXPERIMENT

    client = _registry().client
    try:
        experiment = client.get_experiment_by_name(EXPERIMENT)
        ids = [experiment.experiment_id] if experiment else []
        quoted = name.replace("'", "")
        for query in (f"attributes.run_id = '{quoted}'", f"attributes.run_name = '{quoted}'"):
            runs = client.search_runs(ids, query, order_by=["start_time DESC"], max_results=1)
            if ids and runs:
                return runs[0]
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"MLflow does not answer: {error}") from error
    raise ConfigError("no run in MLflow")


def _registry() -> Any:
    from llm.registry.versions import Registry, tracking_uri_of

    work = value_at(read_yaml(PARAMS), "paths.work") or ".llm"
    return Registry(tracking_uri_of(Path(work)))


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
