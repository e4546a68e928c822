"""Which flow runs have a process. A killed process cannot tell Prefect, so its runs stay Running."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import PrefectException
from prefect.states import Crashed

from llm.files import write_text
from llm.tracking.process_id import ProcessId

UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED]
BEGUN = [StateType.RUNNING, StateType.PAUSED]  # one that is Cancelling is ended by Prefect's runner
WATCH_S = 2.0  # until a killed run is seen; a retry of it takes longer to begin

logger = logging.getLogger(__name__)


@contextmanager
def alive(root: Path, run_id: str) -> Iterator[None]:
    """Leave word that this process runs the flow run, for the body's time."""
    path = _path(root, run_id)
    write_text(path, str(ProcessId.current()))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def crash_stale_runs(root: Path) -> int:
    """Mark the unfinished runs whose process is gone as Crashed; returns how many.

    For a moment in which nothing starts runs: one that is Pending has no process yet.
    """
    with get_client(sync_client=True) as client:
        runs = _read(client, FlowRunFilter(state=_state(UNFINISHED)))
        stale = [run for run in runs if not _has_process(root, str(run.id))]
        _crash(client, stale)
    for run in stale:
        _path(root, str(run.id)).unlink(missing_ok=True)
    return len(stale)


def crash_killed_runs(root: Path) -> int:
    """The same at any time: only those whose process has left word, and was killed since.

    A run and its sub-flows share a process, whose end Prefect notes of the run alone.
    """
    words = _path(root, "").glob("[0-9a-f]*")
    killed = [word.name for word in words if not _has_process(root, word.name)]
    if not killed:
        return 0
    with get_client(sync_client=True) as client:
        ids = FlowRunFilterId(any_=[UUID(run_id) for run_id in killed])
        begun = _read(client, FlowRunFilter(id=ids, state=_state(BEGUN)))
        _crash(client, begun)
    for run_id in killed:
        _path(root, run_id).unlink(missing_ok=True)
    return len(begun)


def watch_for_killed_runs(root: Path) -> None:
    """`crash_killed_runs` now and then, in a thread, as long as this process lives."""

    def watch() -> None:
        while True:
            time.sleep(WATCH_S)
            try:
                crash_killed_runs(root)
            except (httpx.HTTPError, PrefectException) as error:
                logger.warning("killed runs are not marked Crashed yet: %s", error)

    threading.Thread(target=watch, name="killed runs", daemon=True).start()


def _crash(client: SyncPrefectClient, runs: list[FlowRun]) -> None:
    for run in runs:
        _crash_tasks(client, run.id)
        client.set_flow_run_state(run.id, Crashed(message="its process is gone"), force=True)
        logger.info("run %s has no process any more: Crashed", run.name)


def _crash_tasks(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    state = TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))
    flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    tasks = client.read_task_runs(
        flow_run_filter=flow_run, task_run_filter=TaskRunFilter(state=state)
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message="its process is gone"), force=True)


def _read(client: SyncPrefectClient, chosen: FlowRunFilter) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=chosen)


def _state(types: list[StateType]) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=types))


def _has_process(root: Path, run_id: str) -> bool:
    try:
        word = _path(root, run_id).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return ProcessId.parse(word).is_alive()


def _path(root: Path, run_id: str) -> Path:
    return root / ".llm" / "runs" / run_id
