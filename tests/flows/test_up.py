"""`make up` keeps its servers running: what is killed comes back, and running work goes on."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from llm.config.model import ModelConfig
from llm.registry.versions import Registry
from llm.tokenizer.load import Tokenizer
from llm.tracking.process_id import ProcessId
from tests.flows.client import FINAL, ended, start, sub_flows, text_of
from tests.flows.up_process import Up, clone, finish, running_up, start_up, start_waiting
from tests.processes import command_of
from tests.serve.conftest import Versions
from tests.waiting import PATIENCE_S, wait_for


class Killed(NamedTuple):
    """A project, and the processes that its `make up` had."""

    folder: Path
    processes: list[ProcessId]


@pytest.fixture(scope="module")
def killed(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """A project whose `make up` was killed."""
    folder = clone(template, tmp_path_factory.mktemp("up") / "project")
    up = start_up(folder, {})
    known = [ProcessId.of(process.pid) for process in up.processes()]
    os.kill(up.process.pid, signal.SIGKILL)
    up.process.wait()
    return Killed(folder, known)


@pytest.fixture(scope="module")
def up(killed: Killed) -> Iterator[Up]:
    wait_for(lambda: not any(process.is_alive() for process in killed.processes))
    with running_up(killed.folder, {}) as up:
        yield up


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: f"{up.state['prefect']}/api"}),
        get_client(sync_client=True) as client,
    ):
        yield client


def test_a_killed_up_takes_its_servers_along_and_the_next_one_starts(
    killed: Killed, up: Up
) -> None:
    assert len(killed.processes) >= 4
    assert not any(process.is_alive() for process in killed.processes)
    for name in ("prefect", "mlflow", "deployments"):
        assert up.service(name).is_alive()


@pytest.mark.parametrize("server", ["prefect", "mlflow"])
def test_a_run_goes_on_while_a_server_is_killed_and_loses_no_record(
    up: Up, client: SyncPrefectClient, server: str
) -> None:
    run = start_waiting(up, client)
    up.kill(server)
    run = finish(up, client, run)
    assert run.state_name == "Completed", text_of(client, run)
    assert f"{server} was ended by SIGKILL" in up.log
    wait_for(lambda: all(task.state_type in FINAL for task in client.read_task_runs()))
    wait_for(lambda: not list((up.folder / ".llm" / "tracking").glob("flow-*")))
    mlflow = MlflowClient(up.state["mlflow"])
    (pretrain,) = _stage_runs(mlflow, str(run.id), "pretrain")
    ticks = mlflow.get_metric_history(pretrain.info.run_id, "tick")
    assert [tick.step for tick in ticks] == list(range(len(ticks)))
    assert len(ticks) > 3
    assert pretrain.info.status == "FINISHED"


def test_a_run_can_be_cancelled_after_prefect_was_killed(up: Up, client: SyncPrefectClient) -> None:
    run = start_waiting(up, client)
    up.kill("prefect")
    below = psutil.Process(up.service("deployments").pid).children(recursive=True)
    known = [ProcessId.of(process.pid) for process in below]
    assert any("stage.py" in command_of(process) for process in below)
    client.set_flow_run_state(run.id, Cancelling())
    wait_for(lambda: not any(process.is_alive() for process in known))
    assert ended(client, run).state_name == "Cancelled"


def test_a_run_whose_process_alone_is_killed_is_crashed_with_its_sub_flow_and_goes_on_when_asked_again(
    up: Up, client: SyncPrefectClient
) -> None:
    run = start_waiting(up, client)
    train = sub_flows(client, run)[-1]
    assert (train.name, train.state_name) == ("train", "Running")
    deployments = psutil.Process(up.service("deployments").pid)
    (engine,) = [each for each in deployments.children() if "prefect.engine" in command_of(each)]
    below = [engine, *engine.children(recursive=True)]
    known = [ProcessId.of(process.pid) for process in below]
    assert any("stage.py" in command_of(process) for process in below)
    os.kill(engine.pid, signal.SIGKILL)
    wait_for(lambda: client.read_flow_run(train.id).state_name == "Crashed")
    assert ended(client, run).state_name == "Crashed"
    wait_for(lambda: not any(process.is_alive() for process in known))
    again = finish(up, client, start(client, dict(run.parameters)))
    assert again.state_name == "Completed", text_of(client, again)
    assert {sub.state_name for sub in sub_flows(client, again)} == {"Completed"}


def test_killed_deployments_leave_no_process_and_their_run_crashed(
    up: Up, client: SyncPrefectClient
) -> None:
    run = start_waiting(up, client)
    below = psutil.Process(up.service("deployments").pid).children(recursive=True)
    assert any("stage.py" in command_of(process) for process in below)
    known = [ProcessId.of(process.pid) for process in below]
    up.kill("deployments")
    wait_for(lambda: not any(process.is_alive() for process in known))
    run = ended(client, run)
    assert run.state_name == "Crashed"
    again = ended(client, start(client, {"upto": "gather"}))
    assert again.state_name == "Completed", text_of(client, again)


def test_a_champion_is_served_as_soon_as_there_is_one(
    up: Up, tiny: ModelConfig, tokenizer: Tokenizer
) -> None:
    versions = Versions(up.folder, tiny, tokenizer, Registry(up.state["mlflow"]))
    versions.crown(versions.add(1))
    health = f"{up.state['model_server']}/health"
    wait_for(lambda: "model    http" in up.log)
    wait_for(lambda: _version(health) == "1")
    up.kill("model server")
    assert httpx.get(health, timeout=PATIENCE_S).json()["version"] == "1"  # waits for the next one


def test_nothing_listens_where_other_machines_could_reach_it(up: Up) -> None:
    sockets = [socket for process in up.processes() for socket in _listening(process)]
    assert {socket.laddr.port for socket in sockets} >= {
        httpx.URL(up.state[server]).port for server in ("prefect", "mlflow", "model_server")
    }
    assert [s.laddr for s in sockets if not ip_address(s.laddr.ip).is_loopback] == []


def test_a_second_up_says_that_it_runs_already(up: Up) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.up"],
        cwd=up.folder,
        env=up.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"runs already: Prefect {up.state['prefect']}" in done.stderr


def _stage_runs(mlflow: MlflowClient, flow_run_id: str, stage: str) -> list[Run]:
    """The runs of a stage under the flow run's parent."""
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    ids = [experiment.experiment_id]
    (parent,) = mlflow.search_runs(ids, f"tags.prefect_flow_run = '{flow_run_id}'")
    chosen = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.stage = '{stage}'"
    return mlflow.search_runs(ids, chosen)


def _listening(process: psutil.Process) -> list[Any]:
    """The sockets on which it listens; none once it is gone."""
    try:
        sockets = process.net_connections("inet")
    except psutil.NoSuchProcess:
        return []
    return [socket for socket in sockets if socket.status == psutil.CONN_LISTEN]


def _version(health: str) -> str | None:
    try:
        return httpx.get(health, timeout=PATIENCE_S).json()["version"]
    except httpx.TransportError:
        return None
