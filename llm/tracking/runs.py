"""MLflow's side: a spool file is one run, found or created, and its events are delivered to it.

Nothing is sent twice to different runs: a run carries its spool file's name as a tag, by
which a restarted sender finds it again. Delivering the same events again changes nothing.
"""

import fcntl
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS, MLFLOW_PARENT_RUN_ID
from sqlalchemy.exc import SQLAlchemyError

from llm.config.base import read_yaml
from llm.errors import ConfigError, TrackingError
from llm.files import write_text
from llm.tracking.spool import OWNER_FILE, PIPELINE_FILE, append_event, flatten_params

EXPERIMENT = "llm"
SPOOL_TAG = "llm.spool"
METRICS_PER_BATCH = 1000  # MLflow's limits
PARAMS_PER_BATCH = 100
REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST"}

logger = logging.getLogger(__name__)


class Owner(NamedTuple):
    """What a pipeline's owner.json says."""

    process: str
    project: str
    tracking_uri: str


def read_owner(pipeline: Path) -> Owner:
    """Whose end ends the pipeline, and where its records go."""
    return Owner(**json.loads((pipeline / OWNER_FILE).read_text(encoding="utf-8")))


def connect(uri: str, work: Path) -> tuple[MlflowClient, str]:
    """A client of the MLflow at `uri` and the id of our experiment there.

    The artifacts of a local MLflow lie in `work`/mlartifacts; a remote one decides itself.
    Raises TrackingError when it does not answer.
    """
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return client, found.experiment_id
        place = (work / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
        return client, client.create_experiment(EXPERIMENT, artifact_location=place)
    except (MlflowException, SQLAlchemyError) as error:
        raise TrackingError(
            f"MLflow at {uri} does not answer ({error}); start it with `make up`, or unset "
            "MLFLOW_TRACKING_URI to use the project's own file"
        ) from error


def ensure_run(client: MlflowClient, experiment_id: str, spool: Path) -> str:
    """The id of the run that records `spool`, and of its parent, each created at most once."""
    known = spool.with_suffix(".run")
    with _exclusive(spool.parent / "runs.lock"):
        if known.exists():
            return known.read_text(encoding="utf-8")
        parent = spool.parent / PIPELINE_FILE
        tags = {}
        if spool != parent:
            tags[MLFLOW_PARENT_RUN_ID] = _ensure_parent(
                client, experiment_id, parent, first_event(spool)["time_ms"]
            )
        run_id = _find_or_create(client, experiment_id, spool, tags)
        write_text(known, run_id)
        return run_id


def _ensure_parent(client: MlflowClient, experiment_id: str, parent: Path, began_ms: int) -> str:
    """The pipeline's own run; under plain `dvc repro` nobody but us records it."""
    known = parent.with_suffix(".run")
    if known.exists():
        return known.read_text(encoding="utf-8")
    if not parent.exists():
        owner = read_owner(parent.parent)
        begun = time.strftime("%Y%m%d-%H%M%S", time.localtime(began_ms / 1000))
        append_event(
            parent,
            "start",
            time_ms=began_ms,
            name=f"repro-{begun}",
            process=owner.process,
            params=_params_of(Path(owner.project)),
            tags={"project": owner.project},
            implied=True,
        )
    run_id = _find_or_create(client, experiment_id, parent, {})
    write_text(known, run_id)
    return run_id


def _params_of(project: Path) -> dict[str, str]:
    """All of params.yaml as it is now; nothing when it cannot be read, which the stages say."""
    try:
        return flatten_params(read_yaml(project / "params.yaml"))
    except ConfigError:
        return {}


def _find_or_create(
    client: MlflowClient, experiment_id: str, spool: Path, tags: dict[str, str]
) -> str:
    key = f"{spool.parent.name}/{spool.stem}"
    found = client.search_runs([experiment_id], f"tags.`{SPOOL_TAG}` = '{key}'", max_results=1)
    if found:
        return found[0].info.run_id
    start = first_event(spool)
    tags = {**tags, SPOOL_TAG: key}
    run = client.create_run(experiment_id, start["time_ms"], tags, start["name"])
    return run.info.run_id


def first_event(spool: Path) -> dict[str, Any]:
    """The `start` event."""
    with spool.open(encoding="utf-8") as file:
        return json.loads(file.readline())


def deliver(client: MlflowClient, run_id: str, events: Iterable[dict[str, Any]]) -> None:
    """Send events to a run; the same ones sent again change nothing.

    What MLflow refuses for good (a value that is too long, a deleted run) is logged and
    passed over, all else arrives.
    """
    metrics: list[Metric] = []
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    files: dict[str, None] = {}  # the last of each name, in order
    end = None
    for event in events:
        params |= event.get("params", {})
        tags |= event.get("tags", {})
        end = event if event["event"] == "end" else end
        files |= {event["path"]: None} if event["event"] == "artifact" else {}
        for key, value in event.get("values", {}).items():
            metrics.append(Metric(valid_name(key), value, event["time_ms"], event["step"]))
    named = [Param(valid_name(key), value) for key, value in params.items()]
    tagged = [RunTag(valid_name(key), value) for key, value in tags.items()]
    for chunk in chunks(metrics, METRICS_PER_BATCH):
        _send(client, run_id, lambda part: client.log_batch(run_id, metrics=part), chunk)
    for chunk in chunks(named, PARAMS_PER_BATCH):
        _send(client, run_id, lambda part: client.log_batch(run_id, params=part), chunk)
    for chunk in chunks(tagged, PARAMS_PER_BATCH):
        _send(client, run_id, lambda part: client.log_batch(run_id, tags=part), chunk)
    for path in files:
        _upload(client, run_id, Path(path))
    if end is not None:
        _terminate(client, run_id, end)


def _send(
    client: MlflowClient, run_id: str, log: Callable[[list[Any]], Any], items: list[Any]
) -> None:
    """Log the items. MLflow takes a batch whole or not at all: what it refuses is found by halving."""
    try:
        log(items)
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        if len(items) > 1 and _is_active(client, run_id):
            half = len(items) // 2
            _send(client, run_id, log, items[:half])
            _send(client, run_id, log, items[half:])
        else:
            logger.warning("refused by MLflow, passed over: %s ...: %s", items[0].key, error)


def _upload(client: MlflowClient, run_id: str, file: Path) -> None:
    """TrackingError when it has to be tried again."""
    if not file.is_file():
        logger.warning("%s is gone, passed over", file)
        return
    try:
        client.log_artifact(run_id, str(file))
        if file.name.endswith(".table.json"):  # as MLflow's own log_table says it of one
            shown = [{"path": file.name, "type": "table"}]
            client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(shown))
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        logger.warning("refused by MLflow, passed over: %s: %s", file.name, error)
    except OSError as error:  # its own of the artifacts' place, or of the connection to it
        raise TrackingError(f"{file.name} could not be uploaded: {error}") from error


def _terminate(client: MlflowClient, run_id: str, end: dict[str, Any]) -> None:
    try:
        client.set_terminated(run_id, end["status"], end["time_ms"])
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        logger.warning("refused by MLflow, passed over: %s", error)


def _is_active(client: MlflowClient, run_id: str) -> bool:
    """Whether the run is there and not deleted."""
    try:
        return client.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE
    except MlflowException as error:
        if error.error_code not in REFUSALS:
            raise
        return False


def valid_name(name: str) -> str:
    """`name` with what MLflow refuses in names replaced: no event is refused for its name."""
    clean = re.sub(r"[^\w\-. :/]", "_", name)
    parts = [part for part in clean.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:250] or "_"


def chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


@contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
