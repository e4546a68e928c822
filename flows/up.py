"""`make up`: Prefect server, MLflow server and deployments on loopback, until Ctrl-C or SIGTERM.

    source .llm/env && prefect deployment run build-llm/default

What runs is written to `.llm/up.json`, by which `make down` ends it, also when this
process was killed. Ports: LLM_PREFECT_PORT (4200), LLM_MLFLOW_PORT (5000). Logs: `.llm/logs`.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil

from flows.command import end_group
from flows.servers import Servers, answers, check_port, configured_servers
from llm import tied
from llm.errors import ConfigError, LLMError
from llm.files import read_json, write_json, write_text
from llm.tracking.process_id import ProcessId

STATE = Path(".llm") / "up.json"
START_S = 180.0  # a first start makes the databases

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """SIGINT or SIGTERM."""


def main() -> None:
    """Start, wait, stop; exits 1 when something does not start or ends by itself."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        up(Path.cwd())
    except Stopped:
        logger.info("stopped")
    except LLMError as error:
        logger.error("error: %s", error)
        sys.exit(1)


def up(root: Path) -> None:
    """Serve until stopped; says so and returns when that is done already."""
    if running := running_state(root):
        logger.info("runs already: Prefect %s, MLflow %s", running["prefect"], running["mlflow"])
        return
    end_all(root)  # what a killed `make up` left
    servers = configured_servers(root)
    check_port("Prefect", "LLM_PREFECT_PORT", servers.prefect_port)
    check_port("MLflow", "LLM_MLFLOW_PORT", servers.mlflow_port)
    (root / ".llm" / "prefect").mkdir(parents=True, exist_ok=True)
    os.environ.update(servers.environment())
    with _ended_at_exit(root):
        mlflow = _start(root, servers, "mlflow", servers.mlflow_command())
        prefect = _start(root, servers, "prefect", servers.prefect_command())
        _wait(prefect, root, "prefect", lambda: answers(f"{servers.prefect_url}/api/health"))
        _wait(mlflow, root, "mlflow", lambda: answers(f"{servers.mlflow_url}/health"))
        _crash_stale_runs(root)
        deployments = _start(root, servers, "deployments", servers.serve_command())
        _wait(deployments, root, "deployments", _is_deployed)
        write_text(root / ".llm" / "env", servers.env_file())
        logger.info("Prefect  %s", servers.prefect_url)
        logger.info("MLflow   %s", servers.mlflow_url)
        logger.info("run it   source .llm/env && prefect deployment run build-llm/default")
        _watch(root, {"prefect": prefect, "mlflow": mlflow, "deployments": deployments})


def running_state(root: Path) -> dict[str, str] | None:
    """up.json's content, if the `make up` that wrote it still runs."""
    path = root / STATE
    if not path.exists():
        return None
    state = read_json(path)
    return state if ProcessId.parse(state["up"]).is_alive() else None


def end_all(root: Path) -> int:
    """End every process group that up.json names, and what they started; returns how many."""
    path = root / STATE
    if not path.exists():
        return 0
    processes = [ProcessId.parse(text) for text in read_json(path)["processes"].values()]
    alive = [process for process in processes if process.is_alive()]
    below = [child for process in alive for child in _descendants(process.pid)]
    for process in alive:
        end_group(process.pid)
    for child in below:  # flow runs and stages are in sessions of their own
        if child.is_alive():
            end_group(child.pid)
    path.unlink()
    return len(alive)


def _descendants(pid: int) -> list[ProcessId]:
    try:
        return [ProcessId.of(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def _ended_at_exit(root: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the clean-up
        end_all(root)


def _start(root: Path, servers: Servers, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    """Start a server that Linux ends with us, and write it down."""
    log = _log(root, name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(tied.__file__), *command],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    path = root / STATE
    started = read_json(path)["processes"] if path.exists() else {}
    state = {
        "up": str(ProcessId.current()),
        "prefect": servers.prefect_url,
        "mlflow": servers.mlflow_url,
        "processes": {name: str(ProcessId.of(process.pid)), **started},  # the latest ends first
    }
    write_json(path, state)
    return process


def _wait(
    process: subprocess.Popen[bytes], root: Path, name: str, ready: Callable[[], bool]
) -> None:
    """Until it is ready; ConfigError when it ends instead, or takes more than START_S."""
    deadline = time.monotonic() + START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ConfigError(f"{name} did not start; its log is {_log(root, name)}")
        time.sleep(0.3)


def _watch(root: Path, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    """Until stopped; ConfigError when one of them ends by itself."""
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise ConfigError(f"{name} ended by itself; its log is {_log(root, name)}")
        time.sleep(1)


def _crash_stale_runs(root: Path) -> None:
    """Imported here: Prefect reads its settings, which we have just set, when it is imported."""
    from flows.alive import crash_stale_runs

    crash_stale_runs(root)


def _is_deployed() -> bool:
    """Whether build-llm/default is there and ready, i.e. something polls for its runs."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import DeploymentStatus
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name("build-llm/default")
        except ObjectNotFound:
            return False
        return deployment.status == DeploymentStatus.READY


def _log(root: Path, name: str) -> Path:
    return root / ".llm" / "logs" / f"{name}.log"


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped


if __name__ == "__main__":
    main()
