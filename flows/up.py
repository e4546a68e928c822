"""`make up`: Prefect, MLflow, the deployments and the champion's model server, until Ctrl-C or SIGTERM.

    source .llm/env && prefect deployment run build-llm/default

What dies is started again. What runs is written to `.llm/up.json`, by which `make down`
ends it, also when this process was killed. Settings: flows/settings.py. Logs: `.llm/logs`.
"""

import logging
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import socket
from types import FrameType

from flows.databases import ensure_databases
from flows.probe import answers, champion, is_deployed
from flows.remote import configure_remote
from flows.running import end_all, only_one, running_state
from flows.servers import Servers, configured_servers, python
from flows.supervisor import DEATHS, Service, Supervisor
from llm.config.base import load_section
from llm.config.registry import RegisterConfig
from llm.errors import LLMError
from llm.files import write_file
from llm.listening import bind

ENV_FILE = Path(".llm") / "env"
WATCH_S = 0.5
CHAMPION_S = 5.0  # between two looks at the registry while no model is served

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """SIGINT or SIGTERM."""


def main() -> None:
    """Start, wait, serve, stop; exits 1 when something does not start or keeps dying."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with only_one(Path.cwd()) as ours:
            if ours:
                up(Path.cwd())
            else:
                _say_that_it_runs(Path.cwd())
    except Stopped:
        logger.info("stopped")
    except LLMError as error:
        logger.error("error: %s", error)
        sys.exit(1)


def up(root: Path) -> None:
    """Serve until stopped."""
    servers = configured_servers(root)
    model = load_section(RegisterConfig, "register", root / "params.yaml").name
    end_all(root)  # what a killed `make up` left
    ensure_databases(servers.settings)
    configure_remote(root)
    (root / ".llm" / "prefect").mkdir(parents=True, exist_ok=True)
    prefect, mlflow, deployments, model_server = _services(servers)
    addresses = {"prefect": servers.prefect_url, "mlflow": servers.mlflow_url}
    supervisor = Supervisor(root, {**addresses, "model_server": servers.serve_url})
    with _ended_at_exit(supervisor):
        logger.info("starting Prefect, MLflow and the deployments …")
        for service in (prefect, mlflow, deployments):
            supervisor.start(service)
        supervisor.wait([mlflow])
        version = champion(servers, model)
        begun = version is not None and _start_model_server(supervisor, servers, model_server)
        supervisor.wait([prefect, deployments])
        _write_env(root, servers)
        serves = begun and _is_up(supervisor, model_server)
        _announce(servers, model, version if serves else None)
        _keep_running(supervisor, servers, model_server, model, failed=version)


def _services(servers: Servers) -> tuple[Service, Service, Service, Service]:
    """Prefect and MLflow, with their sockets taken, deployments and model server."""
    given, began = servers.settings, datetime.now(UTC)

    def listener(name: str, port: int, variable: str) -> socket:
        return bind(name, given.host, port, variable)

    return (
        Service(
            "prefect",
            python("flows.prefect_server"),
            servers.prefect_environment(),
            lambda: answers(f"{servers.prefect_url}/api/health"),
            listener("Prefect", given.prefect_port, "LLM_PREFECT_PORT"),
        ),
        Service(
            "mlflow",
            python("flows.mlflow_server"),
            servers.mlflow_environment(),
            lambda: answers(f"{servers.mlflow_url}/health"),
            listener("MLflow", given.mlflow_port, "LLM_MLFLOW_PORT"),
        ),
        Service(
            "deployments",
            python("flows.deployments"),
            servers.deployments_environment(),
            lambda: is_deployed(servers, began),
        ),
        Service(
            "model server",
            python("llm.serve.server"),
            servers.model_server_environment(),
            lambda: answers(f"{servers.serve_url}/health"),
        ),
    )


def _start_model_server(supervisor: Supervisor, servers: Servers, service: Service) -> bool:
    """Start it where its port is free; without it everything else goes on."""
    given = servers.settings
    if service.listener is not None:
        service.listener.close()  # who still waits there waits for nothing
    try:
        service.listener = bind("model server", given.host, given.serve_port, "LLM_SERVE_PORT")
    except LLMError as error:
        service.listener = None
        logger.error("error: %s", error)
        return False
    supervisor.start(service)
    return True


def _is_up(supervisor: Supervisor, model_server: Service) -> bool:
    """Whether the model server answers; a model that cannot be served stops nothing else."""
    try:
        supervisor.wait([model_server])
    except LLMError as error:
        logger.error("error: %s", error)
        return False
    return True


def _announce(servers: Servers, model: str, version: str | None) -> None:
    """The addresses."""
    host = servers.settings.host
    elsewhere = "" if servers.settings.is_loopback else f" (listens on {host})"
    logger.info("Prefect  %s%s", servers.prefect_url, elsewhere)
    logger.info("MLflow   %s%s", servers.mlflow_url, elsewhere)
    if version is not None:
        logger.info("model    %s/v1 (%s %s)", servers.serve_url, model, version)
    else:
        logger.info("model    is served as soon as a version of %s has the alias champion", model)
    logger.info("run it   source .llm/env && prefect deployment run build-llm/default")


def _keep_running(
    supervisor: Supervisor, servers: Servers, model_server: Service, model: str, failed: str | None
) -> None:
    """Until stopped; LLMError when a server or the deployments keep dying.

    The model server is started once there is a champion, and follows the alias by itself.
    When it keeps dying it waits for another champion than the one that it `failed` with.
    """
    looked = time.monotonic()
    while True:
        for service in supervisor.watch():
            message = f"{service.name} ended {DEATHS} times in a row; its log is {supervisor.log(service)}"
            if service is not model_server:
                raise LLMError(message)
            logger.error("error: %s; it is started again for another champion", message)
            failed = champion(servers, model)
        if model_server not in supervisor.services and time.monotonic() > looked + CHAMPION_S:
            looked = time.monotonic()
            version = champion(servers, model)
            if version is not None and version != failed:
                failed = version
                if _start_model_server(supervisor, servers, model_server):
                    logger.info("model    %s/v1 (%s %s)", servers.serve_url, model, version)
        time.sleep(WATCH_S)


def _write_env(root: Path, servers: Servers) -> None:
    """`.llm/env`, which only its owner may read."""
    with write_file(root / ENV_FILE) as partial:
        partial.touch(mode=0o600)
        partial.write_text(servers.env_file(), encoding="utf-8")


def _say_that_it_runs(root: Path) -> None:
    if running := running_state(root):
        logger.info("runs already: Prefect %s, MLflow %s", running["prefect"], running["mlflow"])
    else:
        logger.info("runs already: another `make up` is just starting or stopping here")


@contextmanager
def _ended_at_exit(supervisor: Supervisor) -> Iterator[None]:
    env_file = supervisor.root / ENV_FILE
    env_file.unlink(missing_ok=True)  # a killed one's: it says where nothing answers
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the clean-up
        env_file.unlink(missing_ok=True)
        supervisor.stop()


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    main()
