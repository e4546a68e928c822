"""Each process is given what it needs, and none of the others' secrets."""

from pathlib import Path

import mlflow.server.constants as constants
import pytest

from flows.mlflow_server import SERVER_VARIABLES
from flows.servers import configured_servers

SETTINGS = {
    "LLM_HOST": "0.0.0.0",
    "LLM_USERNAME": "ann",
    "LLM_PASSWORD": "the-password-of-ann",
    "LLM_API_KEY": "the-key",
    "LLM_DATABASE_URL": "postgresql://u:the-database@host",
    "LLM_ARTIFACTS_URL": "s3://bucket/artifacts",
    "AWS_SECRET_ACCESS_KEY": "the-s3",
}
NEEDS = {
    "prefect": {"the-password-of-ann", "the-database"},
    "mlflow": {"the-password-of-ann", "the-database", "the-s3"},
    "deployments": {"the-password-of-ann", "the-key", "the-s3"},
    "model_server": {"the-password-of-ann", "the-key"},
}


def test_no_process_is_given_a_secret_that_it_does_not_need(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    servers = configured_servers(tmp_path)
    secrets = set.union(*NEEDS.values())
    for name, needed in NEEDS.items():
        values = "\n".join(getattr(servers, f"{name}_environment")().values())
        assert {secret for secret in secrets if secret in values} == needed, name
    assert "the-database" not in servers.env_file()
    assert "the-s3" not in servers.env_file()


def test_the_addresses_are_those_by_which_this_machine_reaches_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    assert configured_servers(tmp_path).prefect_url == "http://127.0.0.1:4200"
    monkeypatch.setenv("LLM_HOST", "::1")
    assert configured_servers(tmp_path).mlflow_url == "http://[::1]:5000"


def test_mlflow_is_configured_by_the_variables_that_its_own_command_uses() -> None:
    assert set(SERVER_VARIABLES) == {
        constants.BACKEND_STORE_URI_ENV_VAR,
        constants.REGISTRY_STORE_URI_ENV_VAR,
        constants.ARTIFACT_ROOT_ENV_VAR,
        constants.ARTIFACTS_DESTINATION_ENV_VAR,
    }
    assert constants.SERVE_ARTIFACTS_ENV_VAR == "_MLFLOW_SERVER_SERVE_ARTIFACTS"
