"""From a registered version back to everything that it was made from.

    version → runs → params → commit → packages → what each stage wrote → sources

A stage that was restored from the cache was made by an earlier pipeline run: its run is
the one whose tags name the md5 of the version's out.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from llm.errors import TrackingError
from llm.registry.moves import Move, history
from llm.registry.packages import differences, installed_packages
from llm.registry.promotion import GATE_TAG
from llm.registry.record import (
    OUT_TAG,
    Record,
    changed_code,
    committed_params,
    git_description,
    read_record,
)
from llm.registry.versions import Registry, Version
from llm.tracking.runs import EXPERIMENT
from llm.tracking.spool import flatten_params


@dataclass(frozen=True)
class RunOfStage:
    """The MLflow run that made what the version has of a stage."""

    stage: str
    run_id: str
    experiment_id: str
    name: str
    status: str
    started_ms: int
    ended_ms: int | None
    parent_id: str | None


@dataclass(frozen=True)
class Lineage:
    """All that a version was made from; what is not known is None or empty."""

    version: Version
    record: Record
    registered_by: RunOfStage
    parent: RunOfStage | None  # the pipeline run that registered it
    stages: Mapping[str, RunOfStage]
    commit: Mapping[str, str] | None  # subject, date, author; None when it is not here
    changed_code: list[str] | None  # of the working tree that made it, against the commit
    changed_params: Mapping[str, tuple[str | None, str | None]]  # in the commit, in the version
    packages_differ: Mapping[str, tuple[str | None, str | None]]  # then, here and now
    moves: list[Move]  # promotions and refusals of this version, oldest first

    @property
    def verdicts(self) -> dict[str, str]:
        """What the gates of a promotion said, by gate."""
        tags = self.version.tags.items()
        return {
            key.removeprefix(GATE_TAG): value for key, value in tags if key.startswith(GATE_TAG)
        }

    def as_json(self) -> dict[str, Any]:
        """Everything, for machines."""
        return {
            "version": {**asdict(self.version), "uri": self.version.uri},
            "verdicts": self.verdicts,
            **{key: value for key, value in asdict(self).items() if key != "version"},
        }


def trace(registry: Registry, version: Version, root: Path) -> Lineage:
    """Walk back from the version, in MLflow and in the repository `root`."""
    record = read_record(registry, version, root)
    own = _run(registry, version.run_id)
    parent_id = own.data.tags.get(MLFLOW_PARENT_RUN_ID)
    committed = committed_params(root, record.commit)
    return Lineage(
        version=version,
        record=record,
        registered_by=_of_stage(own),
        parent=_of_stage(_run(registry, parent_id)) if parent_id else None,
        stages=_stage_runs(registry, record, parent_id),
        commit=git_description(root, record.commit),
        changed_code=changed_code(record, root),
        changed_params=_changes(committed, record.params) if committed and record.params else {},
        packages_differ=differences(record.packages, installed_packages())
        if record.packages
        else {},
        moves=[move for move in history(registry, version.name) if move.version == version.number],
    )


def _stage_runs(registry: Registry, record: Record, parent_id: str | None) -> dict[str, RunOfStage]:
    """Per stage the run that made its outs: one of the same pipeline run, else the earliest."""
    wanted = {(OUT_TAG + path, md5) for path, md5 in record.outs.items()}
    runs = [run for run in runs_of_experiment(registry) if wanted & run.data.tags.items()]
    runs.sort(key=lambda run: (_parent(run) != parent_id, run.info.start_time))
    found: dict[str, RunOfStage] = {}
    for run in runs:
        made = _of_stage(run)
        if made.stage:
            found.setdefault(made.stage, made)
    order = list(record.stages) or sorted(found, key=lambda stage: found[stage].started_ms)
    return {stage: found[stage] for stage in order if stage in found}


def runs_of_experiment(registry: Registry, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """Every run of our experiment; TrackingError when MLflow does not answer."""
    runs: list[Run] = []
    try:
        experiment = registry.client.get_experiment_by_name(EXPERIMENT)
        token = None
        while experiment is not None:
            page = registry.client.search_runs(
                [experiment.experiment_id], run_view_type=view, max_results=1000, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                break
    except (MlflowException, SQLAlchemyError) as error:
        raise _unreachable(registry, error) from error
    return runs


def _run(registry: Registry, run_id: str) -> Run:
    try:
        return registry.client.get_run(run_id)
    except (MlflowException, SQLAlchemyError) as error:
        raise _unreachable(registry, error) from error


def _unreachable(registry: Registry, error: Exception) -> TrackingError:
    return TrackingError(f"MLflow at {registry.uri} refuses or does not answer: {error}")


def _parent(run: Run) -> str | None:
    return run.data.tags.get(MLFLOW_PARENT_RUN_ID)


def _of_stage(run: Run) -> RunOfStage:
    info = run.info
    return RunOfStage(
        stage=run.data.tags.get("stage", ""),
        run_id=info.run_id,
        experiment_id=info.experiment_id,
        name=info.run_name or info.run_id,
        status=info.status,
        started_ms=info.start_time,
        ended_ms=info.end_time,
        parent_id=_parent(run),
    )


def _changes(
    then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, tuple[str | None, str | None]]:
    """The params that differ, by dotted key."""
    before, after = flatten_params(then), flatten_params(now)
    keys = [*after, *(key for key in before if key not in after)]
    return {
        key: (before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)
    }
