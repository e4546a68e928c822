"""What goes by a name: a checkout, a branch, a commit, a registered version, a run in MLflow."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llm.config.base import read_yaml, value_at
from llm.config.params import PARAMS
from llm.errors import ConfigError, TrackingError
from llm.git import succeeds

if TYPE_CHECKING:
    from mlflow.entities import Run

    from llm.tracking.results import Read

OF_THE_STAGE = ("system/", "timings/")  # of a stage's own run in MLflow: no result
TRAINED = ("pretrain", "sft", "reward", "dpo")
DRAWN = (  # of a curve, the headline first
    "val/loss",
    "train/loss",
    "val/bpb",
    "val/accuracy",
    "val/reward_accuracy",
    "train/grad_norm",
    "lr",
)

Curve = list[dict[str, float]]  # rows by step; a value that was not measured has no key
Curves = dict[str, dict[str, list[tuple[float, float]]]]  # title -> run -> (step, value)


class Found(NamedTuple):
    """The results of one run."""

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    is_part: bool = False  # of a single stage: what it lacks, the others have for themselves
    read_curves: Callable[[], Mapping[str, Curve]] = dict  # by stage


def find_results(name: str) -> Found:
    """The results of whatever goes by the name; ConfigError says where it was looked for."""
    from llm.tracking.results import files_at, files_of, read_results

    if name == ".":
        here = files_of(Path.cwd())
        return Found(*read_results(here), read_curves=lambda: _checkout_curves(here))
    for revision in (name, f"run/{name}"):
        if succeeds(Path.cwd(), "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}"):
            there = files_at(Path.cwd(), revision)
            return Found(*read_results(there), read_curves=partial(_cached_curves, there))
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
    return Found(*results, read_curves=partial(_cached_curves, read))


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
    return Found(
        run.data.params,
        metrics,
        is_part=stage is not None,
        read_curves=partial(_recorded_curves, run),
    )


def _checkout_curves(read: "Read") -> dict[str, Curve]:
    """As the files lie here."""
    from llm.sweep.curves import parse_curve

    plots = value_at(read_yaml(PARAMS), "paths.plots") or "plots"
    found = {stage: parse_curve(read(f"{plots}/{stage}.csv") or "") for stage in TRAINED}
    return {stage: curve for stage, curve in found.items() if curve}


def _cached_curves(read: "Read") -> dict[str, Curve]:
    """As far as DVC's cache has them; none outside a DVC project."""
    from llm.sweep.curves import read_curves
    from llm.worktree import cache_folder

    try:
        return read_curves(read, cache_folder(Path.cwd()))
    except ConfigError:
        return {}


def _recorded_curves(run: "Run") -> dict[str, Curve]:
    """What MLflow has of the run's own stage, or of the pipeline's stages."""
    client = _registry().client
    if "stage" in run.data.tags:
        stages = [run]
    else:
        query = f"tags.`mlflow.parentRunId` = '{run.info.run_id}'"
        stages = client.search_runs([run.info.experiment_id], query)
    found = {}
    for each in stages:
        rows: dict[int, dict[str, float]] = {}
        for key in DRAWN:
            if key in each.data.metrics:
                for point in client.get_metric_history(each.info.run_id, key):
                    row = rows.setdefault(point.step, {"step": point.step})
                    row[key] = point.value
        if len(rows) > 1:
            found[each.data.tags.get("stage", each.info.run_name)] = [rows[s] for s in sorted(rows)]
    return found


def curves_beside(found: Mapping[str, Found]) -> Curves:
    """`STAGE: COLUMN` to each run's points, of those that differ between runs."""
    by_run = {name: each.read_curves() for name, each in found.items()}
    stages = dict.fromkeys(stage for curves in by_run.values() for stage in curves)
    beside: Curves = {}
    for stage in sorted(stages, key=lambda each: (each not in TRAINED, each)):
        for column in DRAWN:
            lines = {
                name: [(row["step"], row[column]) for row in curves[stage] if column in row]
                for name, curves in by_run.items()
                if stage in curves
            }
            lines = {name: points for name, points in lines.items() if len(points) > 1}
            if lines and (
                len(lines) == 1 or any(each != lines[next(iter(lines))] for each in lines.values())
            ):
                beside[f"{stage}: {column}"] = lines
    return beside


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
