"""Settings are refused as a whole, with every rule that they break, and never a secret."""

import pytest

from flows.settings import Settings, read_settings
from llm.errors import ConfigError

ACCESS = {"LLM_USERNAME": "ann", "LLM_PASSWORD": "correct horse battery"}


def test_nothing_set_is_loopback_and_files() -> None:
    settings = read_settings({})
    assert settings.is_loopback
    assert (settings.prefect_port, settings.mlflow_port, settings.serve_port) == (4200, 5000, 8000)
    assert not settings.prefect_database
    assert not settings.mlflow_database
    assert not settings.api_key


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"LLM_MLFLOW_PORT": "http"}, "LLM_MLFLOW_PORT='http' must be a port, 1 to 65535"),
        ({"LLM_SERVE_PORT": "5000"}, "LLM_MLFLOW_PORT and LLM_SERVE_PORT are both 5000; each"),
        ({"LLM_HOST": "0.0.0.0"}, "lets other machines reach the servers; set LLM_USERNAME"),
        ({"LLM_HOST": "example.org"}, "lets other machines reach the servers; set LLM_USERNAME"),
        ({"LLM_USERNAME": "ann"}, "LLM_PASSWORD is not set"),
        ({"LLM_PASSWORD": "correct horse battery"}, "LLM_USERNAME is not set"),
        ({**ACCESS, "LLM_PASSWORD": "short"}, "LLM_PASSWORD must have at least 12 characters"),
        ({**ACCESS, "LLM_PASSWORD": "password1234"}, "one that everybody knows"),
        ({**ACCESS, "LLM_USERNAME": "a:b"}, "LLM_USERNAME must have no colon"),
        ({"LLM_DATABASE_URL": "mysql://u:secret@host"}, "LLM_DATABASE_URL must be postgresql://"),
        ({"LLM_DATABASE_URL": "postgresql://u:secret@h:x"}, "LLM_DATABASE_URL must be postgres"),
        (
            {"LLM_PREFECT_DATABASE_URL": "postgresql://u:secret@host"},
            "LLM_PREFECT_DATABASE_URL names no database",
        ),
        ({"LLM_ARTIFACTS_URL": "/somewhere"}, "must be s3://bucket or s3://bucket/prefix"),
        ({"LLM_DVC_REMOTE": "s3://id:secret@bucket"}, "must not hold credentials"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(environment)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_errors_come_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings({"LLM_HOST": "0.0.0.0", "LLM_PREFECT_PORT": "0", "LLM_DVC_REMOTE": "x"})
    assert len(str(caught.value).split("\n")) == 3


def test_one_server_gets_two_databases_unless_one_is_elsewhere() -> None:
    shared = {"LLM_DATABASE_URL": "postgresql://u:p@host:5432"}
    settings = read_settings(shared)
    assert settings.prefect_database == "postgresql://u:p@host:5432/prefect"
    assert settings.mlflow_database == "postgresql://u:p@host:5432/mlflow"
    other = "postgresql://v:q@other/flows?sslmode=require"
    settings = read_settings({**shared, "LLM_PREFECT_DATABASE_URL": other})
    assert settings.prefect_database == other
    assert settings.mlflow_database == "postgresql://u:p@host:5432/mlflow"


def test_the_model_server_asks_for_the_password_unless_it_has_a_key_of_its_own() -> None:
    assert read_settings(ACCESS).api_key == ACCESS["LLM_PASSWORD"]
    assert read_settings({**ACCESS, "LLM_API_KEY": "key"}).api_key == "key"
    assert read_settings({"LLM_API_KEY": "key"}).password == ""


def test_no_secret_is_shown() -> None:
    database = {"LLM_DATABASE_URL": "postgresql://u:database-secret@host"}
    shown = repr(read_settings({**ACCESS, **database, "LLM_API_KEY": "key-secret"}))
    assert isinstance(read_settings(ACCESS), Settings)
    assert "secret" not in shown
    assert ACCESS["LLM_PASSWORD"] not in shown
