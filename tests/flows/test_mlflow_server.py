"""MLflow's own server on our socket: it lets in who has the password that it is started with."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.probe import answers
from flows.servers import Servers, python
from flows.settings import read_settings
from flows.supervisor import Service, Supervisor
from llm.listening import bind
from tests.conftest import ROOT
from tests.flows.up_process import free_ports
from tests.waiting import PATIENCE_S


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    (tmp_path / ".llm").mkdir()
    supervisor = Supervisor(tmp_path, {})
    yield supervisor
    supervisor.stop()


def test_a_new_password_replaces_the_former_one(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for password, other in (("the-first-password", "x"), ("the-second-one", "the-first-password")):
        given = {**free_ports(), "LLM_USERNAME": "ann", "LLM_PASSWORD": password}
        servers = Servers(supervisor.root, read_settings(given))
        listener = bind("MLflow", "127.0.0.1", servers.settings.mlflow_port, "LLM_MLFLOW_PORT")
        service = Service(
            "mlflow",
            python("flows.mlflow_server"),
            servers.mlflow_environment(),
            lambda url=servers.mlflow_url: answers(f"{url}/health"),
            listener,
        )
        supervisor.start(service)
        supervisor.wait([service])
        url = f"{servers.mlflow_url}/api/2.0/mlflow/experiments/get?experiment_id=0"
        assert httpx.get(url, auth=("ann", password), timeout=PATIENCE_S).status_code == 200
        assert httpx.get(url, auth=("ann", other), timeout=PATIENCE_S).status_code == 401
        supervisor.stop()
    for path in (supervisor.root / ".llm").rglob("*"):
        if path.is_file():
            assert b"the-second-one" not in path.read_bytes(), path
