"""Asks a real `make up` for runs, and looks at what became of them."""

from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType

from llm.config.base import read_yaml
from llm.tracking.process_id import ProcessId
from tests.waiting import wait_for

FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
SENDER = "llm.tracking.sender"


def params_with(folder: Path, seed: int) -> dict[str, Any]:
    values = read_yaml(folder / "params.yaml")
    values["pretrain"]["seed"] = seed
    return values


def start(
    client: SyncPrefectClient, parameters: dict[str, Any], name: str = "build-llm/default"
) -> FlowRun:
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def ended(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """The run, once it is in a final state."""
    wait_for(lambda: client.read_flow_run(run.id).state_type in FINAL)
    return client.read_flow_run(run.id)


def finished(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """The same, with its whole log there; for a run that nothing has killed."""
    ended(client, run)
    wait_for(lambda: "Finished in state" in text_of(client, run))
    return client.read_flow_run(run.id)


def sub_flows(client: SyncPrefectClient, run: FlowRun) -> list[FlowRun]:
    """The runs that are part of the run, in the order of their beginning."""
    parent = FlowRunFilterParentFlowRunId(any_=[run.id])
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))
    return sorted(runs, key=lambda sub: str(sub.start_time))


def log_of(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    """The messages in the run's log."""
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    return [log.message for log in client.read_logs(chosen, limit=200)]


def text_of(client: SyncPrefectClient, run: FlowRun) -> str:
    """The same as one text."""
    return "\n".join(log_of(client, run))


def artifacts_of(client: SyncPrefectClient, run: FlowRun) -> list[Artifact]:
    return client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    )


def processes_of(run: FlowRun) -> dict[ProcessId, list[str]]:
    """The run's process and all that it has started, with their commands.

    MLflow's sender, which outlives the run, is none of them.
    """
    found = {}
    for process in psutil.process_iter():
        try:
            of_run = process.environ().get("PREFECT__FLOW_RUN_ID") == str(run.id)
            command = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if of_run and SENDER not in command:
            found[ProcessId.of(process.pid)] = command
    return found
