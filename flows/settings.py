"""What `make up` is told by environment variables: where to listen, who may ask, where things are kept.

    LLM_HOST                    address to listen on, 127.0.0.1; any that others can reach needs
    LLM_USERNAME, LLM_PASSWORD  which all three servers then ask for
    LLM_API_KEY                 what the model server asks for instead of LLM_PASSWORD
    LLM_PREFECT_PORT, LLM_MLFLOW_PORT, LLM_SERVE_PORT
    LLM_DATABASE_URL            postgresql://user:password@host:port, whose databases `prefect` and
                                `mlflow` are made when missing; SQLite files otherwise
    LLM_PREFECT_DATABASE_URL, LLM_MLFLOW_DATABASE_URL  one of them elsewhere, with the database's name
    LLM_ARTIFACTS_URL           s3://bucket/prefix: MLflow's server keeps artifacts there
    LLM_DVC_REMOTE              s3://bucket/prefix: each run's outs are pushed there
    AWS_ENDPOINT_URL, AWS_…     which S3, and its credentials, as every S3 client reads them

Secrets are handed on by environment only, to the processes that need them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import combinations
from urllib.parse import urlsplit, urlunsplit

from llm.errors import ConfigError
from llm.listening import LOOPBACK, is_loopback

PASSWORD_CHARACTERS = 12  # MLflow's rule
PUBLISHED_PASSWORD = "password1234"  # MLflow refuses the one that it used to ship
SECRET_VARIABLES = (
    "LLM_USERNAME",
    "LLM_PASSWORD",
    "LLM_API_KEY",
    "LLM_DATABASE_URL",
    "LLM_PREFECT_DATABASE_URL",
    "LLM_MLFLOW_DATABASE_URL",
)
EXTRAS = {
    "postgres": ("psycopg",),
    "s3": ("boto3", "dvc_s3"),
}  # pyproject.toml's, and their modules


@dataclass(frozen=True)
class Settings:
    """Checked; an empty text is "not set"."""

    host: str
    prefect_port: int
    mlflow_port: int
    serve_port: int
    username: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)
    prefect_database: str = field(repr=False)  # with the database's name
    mlflow_database: str = field(repr=False)
    artifacts_url: str
    dvc_remote: str

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach what listens on `host`."""
        return is_loopback(self.host)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings; ConfigError names everything that is wrong, and no secret."""
    errors: list[str] = []

    def text(variable: str) -> str:
        return environment.get(variable, "").strip()

    def port(variable: str, default: int) -> int:
        value = text(variable) or str(default)
        if value.isdigit() and 1 <= int(value) <= 65535:
            return int(value)
        errors.append(f"{variable}={value!r} must be a port, 1 to 65535")
        return default

    def database(variable: str, name: str) -> str:
        shared = text("LLM_DATABASE_URL")
        url, named = (text(variable), variable) if text(variable) else (shared, "LLM_DATABASE_URL")
        if not url:
            return ""
        if error := _database_error(named, url, needs_name=named == variable):
            errors.append(error)
            return ""
        return url if named == variable else with_database(url, name)

    settings = Settings(
        host=text("LLM_HOST") or LOOPBACK,
        prefect_port=port("LLM_PREFECT_PORT", 4200),
        mlflow_port=port("LLM_MLFLOW_PORT", 5000),
        serve_port=port("LLM_SERVE_PORT", 8000),
        username=text("LLM_USERNAME"),
        password=text("LLM_PASSWORD"),
        api_key=text("LLM_API_KEY") or text("LLM_PASSWORD"),
        prefect_database=database("LLM_PREFECT_DATABASE_URL", "prefect"),
        mlflow_database=database("LLM_MLFLOW_DATABASE_URL", "mlflow"),
        artifacts_url=text("LLM_ARTIFACTS_URL"),
        dvc_remote=text("LLM_DVC_REMOTE"),
    )
    errors += [*_port_errors(settings), *_access_errors(settings), *_storage_errors(settings)]
    if errors:
        raise ConfigError("\n".join(dict.fromkeys(errors)))
    return settings


def with_database(url: str, name: str) -> str:
    """A database URL with another database's name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _port_errors(settings: Settings) -> list[str]:
    """Where servers listen: each on a port of its own."""
    ports = {
        "LLM_PREFECT_PORT": settings.prefect_port,
        "LLM_MLFLOW_PORT": settings.mlflow_port,
        "LLM_SERVE_PORT": settings.serve_port,
    }
    return [
        f"{variable} and {other} are both {port}; each server needs a port of its own"
        for (variable, port), (other, other_port) in combinations(ports.items(), 2)
        if port == other_port
    ]


def _access_errors(settings: Settings) -> list[str]:
    """Who may ask: nobody from elsewhere without a name and a password."""
    errors = []
    if bool(settings.username) != bool(settings.password):
        missing = "LLM_PASSWORD" if settings.username else "LLM_USERNAME"
        errors.append(f"{missing} is not set; LLM_USERNAME and LLM_PASSWORD go together")
    elif not settings.is_loopback and not settings.password:
        errors.append(
            f"LLM_HOST={settings.host!r} lets other machines reach the servers; set LLM_USERNAME "
            "and LLM_PASSWORD, which they then ask for, or unset LLM_HOST"
        )
    if ":" in settings.username:
        errors.append("LLM_USERNAME must have no colon: HTTP's basic authentication ends it there")
    if settings.password and len(settings.password) < PASSWORD_CHARACTERS:
        errors.append(f"LLM_PASSWORD must have at least {PASSWORD_CHARACTERS} characters")
    if settings.password == PUBLISHED_PASSWORD:
        errors.append(
            "LLM_PASSWORD is one that everybody knows, and MLflow refuses; choose another"
        )
    return errors


def _storage_errors(settings: Settings) -> list[str]:
    """Where things are kept: on S3 by bucket, and with the packages that it takes."""
    errors = []
    for variable, url in (
        ("LLM_ARTIFACTS_URL", settings.artifacts_url),
        ("LLM_DVC_REMOTE", settings.dvc_remote),
    ):
        if not url:
            continue
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.hostname:
            errors.append(f"{variable}={_shown(url)!r} must be s3://bucket or s3://bucket/prefix")
        elif "@" in parts.netloc:
            errors.append(
                f"{variable} must not hold credentials; set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
    used = {
        "postgres": settings.prefect_database or settings.mlflow_database,
        "s3": settings.artifacts_url or settings.dvc_remote,
    }
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        if used[extra] and absent:
            errors.append(
                f"{', '.join(absent)} is not installed; "
                f"`.venv/bin/pip install -c requirements.lock -e '.[{extra}]'`"
            )
    return errors


def _database_error(variable: str, url: str, *, needs_name: bool) -> str:
    form = "postgresql://user:password@host:port" + ("/database" if needs_name else "")
    wrong = f"{variable} must be {form}"  # what it is is not shown: it may hold a password
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("postgresql", "postgres") and parts.hostname and parts.port != 0
    except ValueError:  # of a port that is none
        return wrong
    if needs_name and not parts.path.strip("/"):
        return f"{variable} names no database; it must be {form}"
    return "" if usable else wrong


def _shown(url: str) -> str:
    """A URL without what may be credentials."""
    scheme, separator, rest = url.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
