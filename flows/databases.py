"""PostgreSQL databases for Prefect and MLflow, made when the server has none of the name."""

from urllib.parse import unquote, urlsplit

from flows.settings import Settings, with_database
from llm.errors import ConfigError

CONNECT_S = 10


def ensure_databases(settings: Settings) -> None:
    """Connect to those that `settings` name, and make what is missing; ConfigError, without password."""
    for url in (settings.prefect_database, settings.mlflow_database):
        if url:
            _ensure(url)


def _ensure(url: str) -> None:
    import psycopg  # an optional package, checked with the settings
    from psycopg import sql

    parts = urlsplit(url)
    name = unquote(parts.path.strip("/"))
    try:
        psycopg.connect(url, connect_timeout=CONNECT_S).close()
        return
    except psycopg.OperationalError as error:
        if f'database "{name}" does not exist' not in str(error):
            raise _unreachable(parts.hostname, parts.port, name, error) from None
    try:
        with psycopg.connect(
            with_database(url, "postgres"), connect_timeout=CONNECT_S, autocommit=True
        ) as connection:
            identifier = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
    except psycopg.errors.DuplicateDatabase:  # somebody else was quicker
        return
    except psycopg.Error as error:
        raise _unreachable(parts.hostname, parts.port, name, error) from None


def _unreachable(host: str | None, port: int | None, name: str, error: Exception) -> ConfigError:
    why = str(error).strip().splitlines()[0]
    return ConfigError(
        f"PostgreSQL at {host}:{port or 5432} does not give us the database {name!r} ({why}); "
        "start it, or correct LLM_DATABASE_URL"
    )
