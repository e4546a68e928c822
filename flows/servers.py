"""What `make up` runs: the addresses, the environment that finds them, and each server's command."""

import os
import shlex
import socket
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from llm.errors import ConfigError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Servers:
    """The two servers of the project in `root`."""

    root: Path
    prefect_port: int
    mlflow_port: int

    @property
    def prefect_url(self) -> str:
        return f"http://{HOST}:{self.prefect_port}"

    @property
    def mlflow_url(self) -> str:
        return f"http://{HOST}:{self.mlflow_port}"

    def client_environment(self) -> dict[str, str]:
        """What a shell needs to reach the servers."""
        return {
            "PREFECT_HOME": str(self.root / ".llm" / "prefect"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
        }

    def environment(self) -> dict[str, str]:
        """What the servers and the flows need: no analytics, patience with a slow disk."""
        return {
            **self.client_environment(),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",  # seconds until a run that is asked for starts
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 GB of memory, for nothing we use
            "DO_NOT_TRACK": "true",
        }

    def prefect_command(self) -> list[str]:
        """The Prefect server."""
        port = str(self.prefect_port)
        return [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", port]

    def mlflow_command(self) -> list[str]:
        """The MLflow server, over the file that runs without a server use as well.

        Artifacts are not served but written where they lie, for the same reason.
        """
        work = self.root / ".llm"
        options = {
            "--host": HOST,
            "--port": str(self.mlflow_port),
            "--backend-store-uri": f"sqlite:///{work / 'mlflow.db'}",
            "--default-artifact-root": (work / "mlartifacts").as_uri(),
            "--workers": "1",
        }
        flat = [part for pair in options.items() for part in pair]
        return [sys.executable, "-m", "mlflow", "server", "--no-serve-artifacts", *flat]

    def serve_command(self) -> list[str]:
        """The process that starts a flow run's process when one is asked for."""
        return [sys.executable, "-m", "flows.serve"]

    def env_file(self) -> str:
        """Shell lines to be sourced."""
        lines = self.client_environment().items()
        return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in lines)


def configured_servers(root: Path) -> Servers:
    """Ports 4200 and 5000, or what LLM_PREFECT_PORT and LLM_MLFLOW_PORT say."""
    return Servers(root, _port("LLM_PREFECT_PORT", 4200), _port("LLM_MLFLOW_PORT", 5000))


def check_port(name: str, variable: str, port: int) -> None:
    """ConfigError when something listens on the port already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"{name}: port {port} of {HOST} is not free ({error.strerror}); "
                f"set {variable} to another one"
            ) from None


def answers(url: str) -> bool:
    """Whether an HTTP server answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def _port(variable: str, default: int) -> int:
    text = os.environ.get(variable, "") or str(default)
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise ConfigError(f"{variable}={text!r} must be a port, 1 to 65535")
    return int(text)
