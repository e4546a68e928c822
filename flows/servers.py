"""What `make up` runs: each process's command, and the environment that it needs and no more."""

import os
import shlex
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.settings import SECRET_VARIABLES, Settings, read_settings
from llm.listening import WILDCARDS, url_of

AWS = "AWS_"
INTERNET = (socket.AF_INET, socket.AF_INET6)
ARTIFACTS_THROUGH_MLFLOW = "mlflow-artifacts:/"


@dataclass(frozen=True)
class Servers:
    """The servers of the project in `root`, as `settings` want them."""

    root: Path
    settings: Settings

    @property
    def work(self) -> Path:
        return self.root / ".llm"

    @property
    def prefect_url(self) -> str:
        return url_of(self.settings.host, self.settings.prefect_port)

    @property
    def mlflow_url(self) -> str:
        return url_of(self.settings.host, self.settings.mlflow_port)

    @property
    def serve_url(self) -> str:
        return url_of(self.settings.host, self.settings.serve_port)

    def client_environment(self) -> dict[str, str]:
        """What a shell needs to reach the servers."""
        given = self.settings
        environment = {
            "PREFECT_HOME": str(self.work / "prefect"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "LLM_SERVE_URL": f"{self.serve_url}/v1",
        }
        if given.password:
            environment |= {
                "PREFECT_API_AUTH_STRING": f"{given.username}:{given.password}",
                "MLFLOW_TRACKING_USERNAME": given.username,
                "MLFLOW_TRACKING_PASSWORD": given.password,
            }
        if given.api_key:
            environment["LLM_API_KEY"] = given.api_key
        return environment

    def prefect_environment(self) -> dict[str, str]:
        """The Prefect server's: patience with a slow disk, credentials, its database."""
        given = self.settings
        environment = {
            **_inherited(os.environ, aws=False),
            "PREFECT_HOME": str(self.work / "prefect"),
            "PREFECT_API_URL": f"{self.prefect_url}/api",
            "PREFECT_SERVER_UI_API_URL": "/api",  # a browser asks the host that it has the page from
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds
            "DO_NOT_TRACK": "true",
        }
        if given.password:
            environment["PREFECT_SERVER_API_AUTH_STRING"] = f"{given.username}:{given.password}"
        if given.prefect_database:
            environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = _driven_by(
                "asyncpg", given.prefect_database
            )
        return environment

    def mlflow_environment(self) -> dict[str, str]:
        """The MLflow server's: its database and artifacts, read by flows/mlflow_server.py.

        By default the file that runs without a server use as well, and artifacts are not
        served but written where they lie, for the same reason.
        """
        given = self.settings
        environment = {
            **_inherited(os.environ, aws=True),
            "MLFLOW_BACKEND_STORE_URI": _driven_by("psycopg", given.mlflow_database)
            or f"sqlite:///{self.work / 'mlflow.db'}",
            "MLFLOW_DEFAULT_ARTIFACT_ROOT": (self.work / "mlartifacts").as_uri(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 GB of memory, for nothing we use
            "DO_NOT_TRACK": "true",
        }
        if given.artifacts_url:
            environment["MLFLOW_DEFAULT_ARTIFACT_ROOT"] = ARTIFACTS_THROUGH_MLFLOW
            environment["MLFLOW_ARTIFACTS_DESTINATION"] = given.artifacts_url
        if given.password:
            environment |= {
                "MLFLOW_AUTH_ADMIN_USERNAME": given.username,
                "MLFLOW_AUTH_ADMIN_PASSWORD": given.password,
                "MLFLOW_AUTH_CONFIG_PATH": str(self.work / "mlflow-auth.ini"),
            }
        if not given.is_loopback:
            names = _names(given.host)
            hosts = ",".join(f"{name},{name}:{given.mlflow_port}" for name in names)
            origins = ",".join(f"http://{name}:{given.mlflow_port}" for name in names)
            environment.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", hosts)
            environment.setdefault("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", origins)
        return environment

    def deployments_environment(self) -> dict[str, str]:
        """That of the flows and their stages."""
        return {
            **_inherited(os.environ, aws=True),  # for the DVC remote
            **self.client_environment(),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_RUNNER_POLL_FREQUENCY": "2",  # seconds until a run that is asked for starts
            # four minutes of patience with a server, and with its database, whose absence is a 500
            "PREFECT_CLIENT_MAX_RETRIES": "7",
            "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def model_server_environment(self) -> dict[str, str]:
        """The model server's: where registry and weights are, and what it asks for."""
        return {
            **_inherited(os.environ, aws=bool(self.settings.dvc_remote)),
            **self.client_environment(),
            "LLM_HOST": self.settings.host,
            "LLM_SERVE_PORT": str(self.settings.serve_port),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def env_file(self) -> str:
        """Shell lines to be sourced."""
        lines = self.client_environment().items()
        return "".join(f"export {key}={shlex.quote(value)}\n" for key, value in lines)


def configured_servers(root: Path) -> Servers:
    """As the environment says; ConfigError when that is not usable."""
    return Servers(root, read_settings())


def python(module: str) -> list[str]:
    """The command that runs a module of ours."""
    return [sys.executable, "-m", module]


def _inherited(environment: Mapping[str, str], *, aws: bool) -> dict[str, str]:
    """Our own environment without the secrets, and without S3's unless they are needed."""
    return {
        key: value
        for key, value in environment.items()
        if key not in SECRET_VARIABLES and (aws or not key.startswith(AWS))
    }


def _driven_by(driver: str, url: str) -> str:
    """The URL as SQLAlchemy wants it."""
    return f"postgresql+{driver}://{url.partition('://')[2]}" if url else ""


def _names(host: str) -> list[str]:
    """By which names and addresses other machines may reach this one, as in a URL."""
    names = ["localhost", "127.0.0.1", host, socket.gethostname(), socket.getfqdn()]
    for addresses in psutil.net_if_addrs().values():
        names += [each.address for each in addresses if each.family in INTERNET]
    names = [f"[{name}]" if ":" in name else name for name in names if name not in WILDCARDS]
    return list(dict.fromkeys(names))
