"""What dies is started again, its socket stays, and what keeps dying is given up by name."""

import os
import socket
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import supervisor as module
from flows.probe import answers
from flows.running import end_all, running_state
from flows.supervisor import Service, Supervisor
from llm.errors import ConfigError, LLMError
from llm.listening import LISTEN_FD, bind, url_of
from llm.tracking.process_id import ProcessId
from tests.waiting import PATIENCE_S, wait_for

SERVER = f"""
import http.server, os, socket
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket = socket.socket(fileno=int(os.environ["{LISTEN_FD}"]))
server.serve_forever()
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path, {"prefect": "here", "mlflow": "there"})
    yield supervisor
    supervisor.stop()


def test_who_asks_while_a_server_is_started_again_waits_and_gets_an_answer(
    supervisor: Supervisor,
) -> None:
    listener = bind("it", "127.0.0.1", 0, "PORT")
    url = url_of("127.0.0.1", listener.getsockname()[1])
    service = Service("it", _python(SERVER), os.environ, lambda: answers(url), listener)
    supervisor.start(service)
    supervisor.wait([service])
    first = _get(url)
    os.kill(int(first), 9)
    wait_for(lambda: service.process is not None and service.process.poll() is not None)
    wait_for(lambda: supervisor.watch() == [] and service.process is not None)
    second = _get(url)
    assert second != first
    assert running_state(supervisor.root) is not None
    supervisor.stop()
    assert not ProcessId.of(int(second)).born


def test_what_keeps_dying_is_given_up_and_what_it_started_is_ended(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "DEATHS", 3)
    code = """
import os, subprocess
child = subprocess.Popen(["sleep", "600"])
print(child.pid, flush=True)
os._exit(7)
"""
    service = Service("fragile", _python(code), os.environ, lambda: True)
    supervisor.start(service)
    given_up: list[Service] = []
    wait_for(lambda: bool(given_up.extend(supervisor.watch()) or given_up))
    assert given_up == [service]
    assert supervisor.services == []
    children = supervisor.log(service).read_text().split()
    assert len(children) == 3
    wait_for(lambda: not any(ProcessId.of(int(child)).born for child in children))


def test_a_service_that_ends_instead_of_starting_is_an_error_that_names_its_log(
    supervisor: Supervisor,
) -> None:
    service = Service("hopeless", _python("raise SystemExit('no')"), os.environ, lambda: False)
    supervisor.start(service)
    with pytest.raises(LLMError, match=r"hopeless did not start; its log is .*hopeless\.log"):
        supervisor.wait([service])
    assert "no" in supervisor.log(service).read_text()


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} .* is not free.*set LLM_PREFECT_PORT"):
            bind("Prefect", "127.0.0.1", port, "LLM_PREFECT_PORT")
    with pytest.raises(ConfigError, match="LLM_HOST='no such host' is no address"):
        bind("Prefect", "no such host", 0, "LLM_PREFECT_PORT")


def test_without_anything_running_there_is_nothing_to_end(tmp_path: Path) -> None:
    assert running_state(tmp_path) is None
    assert end_all(tmp_path) == 0


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return response.read().decode()
