"""MLflow's runs: those of pipelines that no version came of, and whose branch or commit is gone.

A run is only judged when it is known to be this project's: it names the project's folder,
or the registry is the project's own file. It is first marked and deleted as in MLflow's
page, from where `mlflow runs restore` would still bring it back; then, where MLflow's
database can be reached, its artifacts and rows are removed. Killed in between, the next
`llm gc` finds the mark and goes on.
"""

import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from llm.errors import TrackingError
from llm.git import git, has_commit, succeeds
from llm.registry.clean.plan import YOUNG, Freeable, Kept, size_of
from llm.registry.lineage import runs_of_experiment
from llm.registry.record import OUT_TAG
from llm.registry.versions import Registry, Version

KIND = "MLflow run"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
MARK = "llm.gc"  # a tag: deleted by us, not by a person


def run_items(
    registry: Registry, root: Path, versions: Collection[Version], cutoff: float
) -> tuple[list[Freeable], list[Kept]]:
    """Pipeline runs with their stages: what a version, a branch or a running process needs stays."""
    judge = _Judge(registry, root, versions, cutoff)
    freeable, kept = [], []
    for family in _families(runs_of_experiment(registry)):
        parent = family[-1].info
        name = f"{parent.run_name} {parent.run_id[:8]}"
        if why := judge.keeps(family):
            size = size_of(_freeable(name, why, family).paths) if why == YOUNG else 0
            kept.append(Kept(KIND, name, why, size))
        else:
            freeable.append(_freeable(name, "no version came of it, its branch is gone", family))
    if _database(registry, root):
        for run in _marked(registry):
            name = f"remains of {run.info.run_name} {run.info.run_id[:8]}"
            freeable.append(_freeable(name, "an earlier clean-up was killed", [run]))
    return freeable, kept


def _families(runs: list[Run]) -> list[list[Run]]:
    """Runs by pipeline, the parent last, so that it goes when its stages have gone."""
    ids = {run.info.run_id for run in runs}
    families: dict[str, list[Run]] = {}
    for run in runs:
        parent = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        families.setdefault(parent if parent in ids else run.info.run_id, []).append(run)
    return [
        sorted(family, key=lambda run: run.info.run_id == parent_id)
        for parent_id, family in families.items()
    ]


def _freeable(name: str, why: str, family: list[Run]) -> Freeable:
    paths = tuple(path for run in family for path in _local(run.info.artifact_uri))
    return Freeable(KIND, name, why, paths, tuple(run.info.run_id for run in family))


class _Judge:
    """Why runs of one pipeline stay."""

    def __init__(
        self, registry: Registry, root: Path, versions: Collection[Version], cutoff: float
    ) -> None:
        self._root, self._cutoff_ms = root, cutoff * 1000
        self._needed = {version.run_id for version in versions}
        self._made = {
            item for each in versions for item in each.tags.items() if item[0].startswith(OUT_TAG)
        }
        self._own_registry = registry.uri == f"sqlite:///{_own_file(root)}"
        self._commits: dict[str, str] = {}

    def keeps(self, family: list[Run]) -> str:
        """A reason; empty when there is none."""
        tags = family[-1].data.tags
        if any(run.info.run_id in self._needed for run in family):
            return "a version was registered by it"
        if any(self._made & run.data.tags.items() for run in family):
            return "made what a version has"
        if any(run.info.status in ("RUNNING", "SCHEDULED") for run in family):
            return "has not ended"
        if tags.get("project") != str(self._root) and not self._own_registry:
            return "is another project's, or does not say whose"
        return self._ties(family, tags.get("branch"))

    def _ties(self, family: list[Run], branch: str | None) -> str:
        if branch and succeeds(
            self._root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}"
        ):
            return f"branch {branch} has its results"
        commits = {run.data.tags.get("git_commit", "none") for run in family} - {"none"}
        if not branch and not commits:
            return "names neither branch nor commit"
        if not branch:
            for commit in sorted(commits):
                if why := self._commit(commit):
                    return why
        ended = max(run.info.end_time or run.info.start_time for run in family)
        return YOUNG if ended > self._cutoff_ms else ""

    def _commit(self, commit: str) -> str:
        """Why what was made from a commit stays: a branch or tag has it, or it is somebody else's."""
        if commit not in self._commits:
            if not has_commit(self._root, commit):
                why = "its commit is not known here"
            elif git(self._root, "for-each-ref", "--count=1", "--contains", commit):
                why = "its commit is on a branch"
            else:
                why = ""
            self._commits[commit] = why
        return self._commits[commit]


def free_run(registry: Registry, root: Path, run_id: str) -> None:
    """Mark and delete a run, and remove it for good where the database can be reached."""
    client = registry.client
    try:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage != LifecycleStage.DELETED:
            client.set_tag(run_id, MARK, time.strftime("%Y-%m-%dT%H:%M:%S"))
            client.delete_run(run_id)
        if database := _database(registry, root):
            _remove(SqlAlchemyStore(database, run.info.artifact_uri), run_id)
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(f"MLflow at {registry.uri} did not delete {run_id}: {error}") from error


def _remove(store: SqlAlchemyStore, run_id: str) -> None:
    """Remove a deleted run's models, artifacts and rows, as `mlflow gc` does of all deleted runs."""
    try:
        run = store.get_run(run_id)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return  # the server that deleted it has another database
        raise
    assert run.info.lifecycle_stage == LifecycleStage.DELETED
    models = store.search_logged_models(
        [run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'"
    )
    for model in models:
        _remove_files(model.artifact_location)
        store.delete_logged_model(model.model_id)
        store._hard_delete_logged_model(model.model_id)
    _remove_files(run.info.artifact_uri)
    store._hard_delete_run(run_id)


def _remove_files(uri: str | None) -> None:
    if local := list(_local(uri)):
        shutil.rmtree(local[0], ignore_errors=True)
    elif uri:
        get_artifact_repository(uri).delete_artifacts()


def _marked(registry: Registry) -> Iterator[Run]:
    """Runs that an earlier clean-up has deleted but not removed."""
    for run in runs_of_experiment(registry, ViewType.DELETED_ONLY):
        if MARK in run.data.tags:
            yield run


def _database(registry: Registry, root: Path) -> str | None:
    """The database behind the registry, if it can be reached from here: the project's own is."""
    if not registry.uri.startswith("http"):
        return registry.uri
    host = urlparse(registry.uri).hostname or ""
    return (
        f"sqlite:///{_own_file(root)}" if host in LOOPBACK and _own_file(root).is_file() else None
    )


def _own_file(root: Path) -> Path:
    return root.absolute() / ".llm" / "mlflow.db"


def _local(uri: str | None) -> Iterator[Path]:
    """The folder of artifacts that lie on this machine."""
    if uri is None:
        return
    address = urlparse(uri)
    if address.scheme in ("", "file"):
        yield Path(unquote(address.path))
