"""The sender of one pipeline run: follows its spool files, delivers to MLflow, closes the runs.

    python -m llm.tracking.sender <work>/tracking/<pipeline>

Started by the first stage that finds none (`spool.start_sender`), which has taken the
pipeline's lock and hands it on; ends when the pipeline's
process has ended and everything is delivered, and then removes the folder. When MLflow
cannot be reached for RETRY_S after the pipeline's end it leaves the folder, and the next
pipeline's sender delivers it. Kill it at any moment: nothing is lost or sent twice.
"""

import fcntl
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from llm.errors import LLMError, TrackingError
from llm.files import write_text
from llm.tracking.lineage import out_md5s, read_lock
from llm.tracking.process_id import ProcessId
from llm.tracking.results import files_of, read_results
from llm.tracking.runs import connect, deliver, ensure_run, first_event, read_owner
from llm.tracking.spool import LOCK_FILE, OWNER_FILE, PIPELINE_FILE, append_event

POLL_S = 1.0
RETRY_S = 60.0

logger = logging.getLogger(__name__)


def main(pipeline: Path) -> None:
    """Serve `pipeline`, then whatever former senders left behind."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    os.nice(10)  # the stages come first
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
    follow(pipeline, RETRY_S, started_by_it=True)  # whose lock we have inherited
    for folder in sorted(path.parent for path in pipeline.parent.glob(f"*/{OWNER_FILE}")):
        with _only_one(folder) as ours:
            if ours and not _is_running(folder):
                follow(folder, 0.0, started_by_it=False)


def follow(pipeline: Path, retry_s: float, *, started_by_it: bool) -> bool:
    """Deliver until the pipeline has ended and everything is sent; False when MLflow stays away."""
    client: MlflowClient | None = None
    experiment_id = ""
    deadline = float("inf")
    while True:
        running = _is_running(pipeline)
        if not running:
            deadline = min(deadline, time.monotonic() + retry_s)
        try:
            if client is None:
                owner = read_owner(pipeline)
                client, experiment_id = connect(owner.tracking_uri, pipeline.parent.parent)
            _send_new_events(client, experiment_id, pipeline)
            if not running:
                _close(client, experiment_id, pipeline, started_by_it)
                logger.info("%s: everything sent", pipeline.name)
                return True
        except (MlflowException, TrackingError) as error:
            client = None
            if time.monotonic() >= deadline:
                logger.warning("%s: kept for the next sender: %s", pipeline.name, error)
                return False
            logger.warning("%s: will try again: %s", pipeline.name, error)
        time.sleep(POLL_S)


def _send_new_events(client: MlflowClient, experiment_id: str, pipeline: Path) -> None:
    """Deliver what every spool file has got since the last time, and remember how far that is."""
    for spool in _spools(pipeline):
        sent = spool.with_suffix(".sent")
        offset = int(sent.read_text(encoding="utf-8")) if sent.exists() else 0
        events, end = _read_events(spool, offset)
        if not events:
            continue
        run_id = ensure_run(client, experiment_id, spool)
        deliver(client, run_id, events)
        write_text(sent, str(end))


def _close(client: MlflowClient, experiment_id: str, pipeline: Path, started_by_it: bool) -> None:
    """End every run that did not end by itself, tag the stages' outs, and forget the folder."""
    for spool in _spools(pipeline):
        if _status(spool) is None and spool.name != PIPELINE_FILE:
            append_event(spool, "end", status="KILLED")
    _tag_outs(pipeline, started_by_it)
    parent = pipeline / PIPELINE_FILE
    if parent.exists() and _status(parent) is None:
        if started_by_it and first_event(parent).get("implied"):
            _record_results(parent, Path(read_owner(pipeline).project))
        append_event(parent, "end", status=_parent_status(pipeline))
    _send_new_events(client, experiment_id, pipeline)
    shutil.rmtree(pipeline)


def _record_results(parent: Path, project: Path) -> None:
    """Every stage's last metrics on the pipeline's own run; a flow records them itself."""
    try:
        results = read_results(files_of(project))
    except (LLMError, OSError) as error:
        logger.warning("%s: no results: %s", project, error)
        return
    append_event(parent, "metrics", step=0, values=results.metrics)


def _tag_outs(pipeline: Path, started_by_it: bool) -> None:
    """md5 of every finished stage's outs. DVC writes them to dvc.lock after the stage has exited.

    A flow that works in a folder of its own leaves a copy of its dvc.lock beside the spools.
    """
    lock = pipeline / "dvc.lock"
    if not lock.exists():
        if not started_by_it:
            return  # the project's dvc.lock may be a later run's by now
        lock = Path(read_owner(pipeline).project) / "dvc.lock"
    stages = read_lock(lock)
    for spool in _spools(pipeline):
        stage = stages.get(first_event(spool)["name"], {})
        tags = {f"out/{path}": md5 for path, md5 in out_md5s(stage).items()}
        if tags and _status(spool) == "FINISHED":
            append_event(spool, "tags", tags=tags)


def _parent_status(pipeline: Path) -> str:
    """How a parent run ended that does not say: its flow was killed, or it is a plain `dvc repro`."""
    if not first_event(pipeline / PIPELINE_FILE).get("implied"):
        return "KILLED"
    statuses = {_status(spool) for spool in _spools(pipeline) if spool.name != PIPELINE_FILE}
    return next((bad for bad in ("FAILED", "KILLED") if bad in statuses), "FINISHED")


def _status(spool: Path) -> str | None:
    """How the run ended; None while it has not."""
    events, _ = _read_events(spool, 0)
    return next((event["status"] for event in reversed(events) if event["event"] == "end"), None)


def _read_events(spool: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The whole events from byte `offset` on, and where they end."""
    with spool.open("rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content[: content.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            logger.warning("%s: half a line, its writer was killed", spool.name)
    return events, offset + len(whole)


def _is_running(pipeline: Path) -> bool:
    """Whether the pipeline's process, or a stage that outlives it, may still record something."""
    if ProcessId.parse(read_owner(pipeline).process).is_alive():
        return True
    return any(
        _status(spool) is None and ProcessId.parse(first_event(spool)["process"]).is_alive()
        for spool in _spools(pipeline)
    )


def _spools(pipeline: Path) -> list[Path]:
    """The runs' files, those with a whole first line."""
    return [path for path in sorted(pipeline.glob("*.jsonl")) if _has_begun(path)]


def _has_begun(spool: Path) -> bool:
    with spool.open("rb") as file:
        return file.readline().endswith(b"\n")


@contextmanager
def _only_one(pipeline: Path) -> Iterator[bool]:
    """Whether the pipeline has no other sender: True holds its lock for the body."""
    with (pipeline / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
