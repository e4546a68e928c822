"""Runs of a deployment as children of this flow run: so many at a time, and none outlives it."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.runtime import flow_run
from prefect.states import Cancelling

POLL_S = 2.0
PATIENCE_S = 600.0  # with a Prefect server that does not answer
CANCEL_S = 20.0  # Prefect ends this process 30 s after it asked

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Child(NamedTuple):
    """A run to be started."""

    name: str
    parameters: Mapping[str, Any]


def run_children(
    deployment: str,
    children: Iterable[Child],
    at_once: int,
    on_change: Callable[[int, FlowRun], None],
    on_poll: Callable[[], None] = lambda: None,
) -> None:
    """Run all, `at_once` at a time; returns when each has ended, however it did.

    `on_change` gets a child's index and its run in each new state, `on_poll` is called now
    and then. Whatever ends this (a cancellation, an error) cancels the children that run.
    """
    waiting = deque(enumerate(children))
    live: dict[UUID, int] = {}
    states: dict[UUID, UUID | None] = {}
    try:
        while waiting or live:
            while waiting and len(live) < at_once:
                index, child = waiting.popleft()
                run = patiently(lambda key=index, child=child: _start(deployment, key, child))
                live[run.id] = index
            for run in patiently(lambda: _read(live)):
                if run.state_id != states.get(run.id):
                    states[run.id] = run.state_id
                    on_change(live[run.id], run)
                if run.state is not None and run.state.is_final():
                    del live[run.id]
            on_poll()
            if live or waiting:
                time.sleep(POLL_S)
    finally:
        for run in _cancel(live):
            on_change(live[run.id], run)


def _start(deployment: str, index: int, child: Child) -> FlowRun:
    """Ask for the run; asking again, because the answer was lost, makes no second one."""
    run = run_deployment(
        deployment,
        parameters=dict(child.parameters),
        flow_run_name=child.name,
        idempotency_key=f"{flow_run.id}-{flow_run.run_count}-{child.name}-{index}",
        timeout=0,
    )
    assert isinstance(run, FlowRun), "not in an event loop"
    return run


def _read(ids: Iterable[UUID]) -> list[FlowRun]:
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=list(ids)))
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=wanted)


def patiently(ask: Callable[[], T]) -> T:
    """What the Prefect server answers, once it does; its error after PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except httpx.HTTPError as error:
            if _is_refusal(error) or time.monotonic() > deadline:
                raise
            logger.warning("the Prefect server does not answer (%s); waits", error)
            time.sleep(POLL_S)


def _is_refusal(error: httpx.HTTPError) -> bool:
    """Whether asking again would end the same way."""
    return isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500


def _cancel(live: Iterable[UUID]) -> list[FlowRun]:
    """Cancel the runs and wait for their end, as long as Prefect waits for ours; returns them."""
    ids = list(live)
    if not ids:
        return []
    deadline = time.monotonic() + CANCEL_S
    with get_client(sync_client=True) as client:
        for run_id in ids:
            client.set_flow_run_state(run_id, Cancelling(message="the sweep was ended"))
    while True:
        runs = _read(ids)
        ended = all(run.state is None or run.state.is_final() for run in runs)
        if ended or time.monotonic() > deadline:
            return runs
        time.sleep(POLL_S / 4)
