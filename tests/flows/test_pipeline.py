"""`make up` on loopback: runs asked for there work beside the checkout, are seen, and can be ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Running

from flows.alive import alive, crash_stale_runs
from flows.pipeline import build_llm
from flows.worktree import git
from llm.config.base import read_yaml
from llm.tracking.process_id import ProcessId
from tests.flows.up_process import free_ports


@pytest.fixture(scope="module")
def served(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, SyncPrefectClient]]:
    """The project with its servers running, and a client; at the end nothing is left."""
    folder = tmp_path_factory.mktemp("served") / "project"
    git(template, "clone", "--quiet", str(template), str(folder))
    dropped = ("LLM_TRACKING", "LLM_SPOOL", "LLM_PIPELINE", "LLM_PIPELINE_PID", "DVC_EXP_NAME")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    environment = {**kept, **free_ports()}
    log = (folder.parent / "up.log").open("w")
    up = subprocess.Popen(
        [sys.executable, "-m", "flows.up"], cwd=folder, env=environment, stderr=log
    )
    try:
        _wait(lambda: (folder / ".llm" / "env").exists() or up.poll() is not None, 180)
        assert up.poll() is None, (folder.parent / "up.log").read_text()
        state = json.loads((folder / ".llm" / "up.json").read_text())
        with (
            temporary_settings({PREFECT_API_URL: f"{state['prefect']}/api"}),
            get_client(sync_client=True) as client,
        ):
            yield folder, client
    finally:
        below = psutil.Process(up.pid).children(recursive=True) if up.poll() is None else []
        up.send_signal(signal.SIGTERM)
        assert up.wait(timeout=60) == 0
        log.close()
    assert not [process for process in below if ProcessId.of(process.pid).born]
    assert not (folder / ".llm" / "up.json").exists()


def test_a_run_finishes_beside_the_checkout_with_every_log_and_record(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    run = _finished(client, _start(client, {}))
    assert run.state_name == "Completed"
    text = "\n".join(log.message for log in _logs(client, run))
    for stage in ("gather", "pretrain", "instructions", "report"):
        assert f"{stage} | this is {stage}" in text

    branch = f"run/{run.name}"
    assert git(folder, "log", "--format=%s", branch).split("\n") == [
        f"results of {run.name}",
        "first",
    ]
    assert json.loads(git(folder, "show", f"{branch}:metrics/pretrain.json")) == {"seed": 1}
    locked = git(folder, "show", f"{branch}:dvc.lock")
    assert "pretrain:" in locked
    assert git(folder, "status", "--porcelain") == ""
    assert not list((folder / ".llm" / "worktrees").iterdir())

    state = json.loads((folder / ".llm" / "up.json").read_text())
    _wait(lambda: not list((folder / ".llm" / "tracking").glob("flow-*")), 60)
    mlflow = MlflowClient(state["mlflow"])
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    recorded = {r.info.run_name: r for r in mlflow.search_runs([experiment.experiment_id])}
    assert recorded.keys() == {run.name, "gather", "pretrain", "instructions", "report"}
    parent = recorded.pop(run.name)
    assert parent.data.tags["prefect_flow_run"] == str(run.id)
    assert parent.data.params["pretrain.seed"] == "1"
    for child in (parent, *recorded.values()):
        assert child.info.status == "FINISHED"
    for name, child in recorded.items():
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags[f"out/data/{name}"] in locked
        assert child.data.tags["git_dirty"] == "false"


def test_a_failing_stage_fails_the_run_with_its_message_and_what_follows_does_not_run(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    run = _finished(client, _start(client, {"params": _params(folder, seed=13)}))
    assert run.state_name == "Failed"
    assert run.state is not None
    assert "no such luck" in str(run.state.message)
    assert "report |" not in "\n".join(log.message for log in _logs(client, run))
    (kept,) = (folder / ".llm" / "worktrees").iterdir()  # a retry continues there
    assert read_yaml(kept / "params.yaml")["pretrain"]["seed"] == 13
    assert git(folder, "status", "--porcelain") == ""


def test_cancelling_ends_every_process_of_the_run(served: tuple[Path, SyncPrefectClient]) -> None:
    folder, client = served
    parameters = {"params": _params(folder, seed=99), "upto": "pretrain"}
    run = _start(client, parameters)
    _wait(lambda: any("this is pretrain" in log.message for log in _logs(client, run)), 90)
    processes = [process for process in _processes() if "stage.py" in process.info["cmdline"]]
    assert processes
    client.set_flow_run_state(run.id, Cancelling())
    run = _finished(client, run)
    assert run.state_name == "Cancelled"
    _wait(lambda: not any(ProcessId.of(process.pid).born for process in processes), 30)
    _wait(lambda: not any("--single-item" in p.info["cmdline"] for p in _processes()), 30)


def test_a_run_whose_process_is_gone_is_marked_crashed(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    gone = client.create_flow_run(build_llm, state=Running())
    here = client.create_flow_run(build_llm, state=Running())
    with alive(folder, str(here.id)):
        assert crash_stale_runs(folder) == 1
    assert client.read_flow_run(gone.id).state_name == "Crashed"
    assert client.read_flow_run(here.id).state_name == "Running"


def test_down_says_when_nothing_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.down"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "nothing runs\n"


def _params(folder: Path, seed: int) -> dict[str, Any]:
    values = read_yaml(folder / "params.yaml")
    values["pretrain"]["seed"] = seed
    return values


def _start(client: SyncPrefectClient, parameters: dict[str, Any]) -> FlowRun:
    deployment = client.read_deployment_by_name("build-llm/default")
    return client.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def _finished(client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    final = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
    _wait(lambda: client.read_flow_run(run.id).state_type in final, 120)
    _wait(lambda: any("Finished in state" in log.message for log in _logs(client, run)), 30)
    return client.read_flow_run(run.id)


def _logs(client: SyncPrefectClient, run: FlowRun) -> list[Any]:
    return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id])), limit=200)


def _processes() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if process.info["cmdline"]]


def _wait(condition: Callable[[], bool], limit_s: float) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {limit_s:g} s"
        time.sleep(0.5)
