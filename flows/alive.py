"""Which flow runs have a process. A killed process cannot tell Prefect, so its runs stay Running."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

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
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from llm.tracking.process_id import ProcessId

UNFINISHED = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED]

logger = logging.getLogger(__name__)


@contextmanager
def alive(root: Path, run_id: str) -> Iterator[None]:
    """Leave word that this process runs the flow run, for the body's time."""
    path = _path(root, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(ProcessId.current()), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def crash_stale_runs(root: Path) -> int:
    """Mark the unfinished runs whose process is gone as Crashed; returns how many."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=state))
        stale = [run for run in runs if not _has_process(root, str(run.id))]
        for run in stale:
            crashed = Crashed(message="its process is gone")
            _crash_tasks(client, run.id)
            client.set_flow_run_state(run.id, crashed, force=True)
            _path(root, str(run.id)).unlink(missing_ok=True)
            logger.info("run %s has no process any more: Crashed", run.name)
    return len(stale)


def _crash_tasks(client: SyncPrefectClient, flow_run_id: UUID) -> None:
    state = TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))
    flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    tasks = client.read_task_runs(
        flow_run_filter=flow_run, task_run_filter=TaskRunFilter(state=state)
    )
    for task in tasks:
        client.set_task_run_state(task.id, Crashed(message="its process is gone"), force=True)


def _has_process(root: Path, run_id: str) -> bool:
    path = _path(root, run_id)
    if not path.exists():
        return False
    return ProcessId.parse(path.read_text(encoding="utf-8")).is_alive()


def _path(root: Path, run_id: str) -> Path:
    return root / ".llm" / "runs" / run_id
