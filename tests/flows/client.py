"""Asks a real `make up` for runs, and looks at what became of them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType

from llm.config.base import read_yaml


def params_with(folder: Path, seed: int) -> dict[str, Any]:
    values = read_yaml(folder / "params.yaml")
    values["pretrain"]["seed"] = seed
    return values


def start(
    client: SyncPrefectClient, parameters: dict[str, Any], name: str = "build-llm/default"
) -> FlowRun:
    deployment = client.read_deployment_by_name(name)
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def finished(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    final = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
    wait_for(lambda: client.read_flow_run(run.id).state_type in final, 120)
    wait_for(lambda: any("Finished in state" in log.message for log in logs_of(client, run)), 30)
    return client.read_flow_run(run.id)


def logs_of(client: SyncPrefectClient, run: FlowRun) -> list[Any]:
    return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)


def text_of(client: SyncPrefectClient, run: FlowRun) -> str:
    return "\n".join(log.message for log in logs_of(client, run))


def artifacts_of(client: SyncPrefectClient, run: FlowRun) -> list[Artifact]:
    return client.read_artifacts(
        artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    )


def processes_in(folder: Path) -> list[psutil.Process]:
    """The processes that work in a run's worktree of the project."""
    found = psutil.process_iter(["cmdline", "cwd"])
    place = str(folder / ".llm" / "worktrees")
    return [process for process in found if (process.info["cwd"] or "").startswith(place)]


def wait_for(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {limit_s:g} s"
        time.sleep(0.5)
