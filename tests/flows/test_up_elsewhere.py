"""`make up` where others can reach it, on PostgreSQL and S3: credentials, and secrets kept secret."""

import base64
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from llm.config.model import ModelConfig
from llm.registry.versions import Registry
from llm.tokenizer.load import Tokenizer
from tests.conftest import ROOT
from tests.flows.client import ended, text_of
from tests.flows.storage import DATABASE_PASSWORD, Postgres, postgres, s3, why_no_postgres
from tests.flows.up_process import Up, clone, free_ports, running_up, start_waiting
from tests.processes import command_of
from tests.serve.conftest import Versions
from tests.waiting import PATIENCE_S, wait_for

USER, PASSWORD, KEY = "ann", "correct-horse-battery", "key-of-the-model-server"
PAIR = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = (PASSWORD, KEY, PAIR, DATABASE_PASSWORD, "s3-secret-0815")


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres | None]:
    """None where there is no PostgreSQL: everything else is tested on files then."""
    if why_no_postgres():
        yield None
        return
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    with s3("factory") as environment:
        yield environment


@pytest.fixture(scope="module")
def up(
    template: Path,
    database: Postgres | None,
    storage: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Up]:
    folder = clone(template, tmp_path_factory.mktemp("elsewhere") / "project")
    settings = {
        "LLM_HOST": "0.0.0.0",
        "LLM_USERNAME": USER,
        "LLM_PASSWORD": PASSWORD,
        "LLM_API_KEY": KEY,
        "LLM_DATABASE_URL": database.url if database else "",
        "LLM_ARTIFACTS_URL": "s3://factory/artifacts",
        "LLM_DVC_REMOTE": "s3://factory/dvc",
        **storage,
    }
    with running_up(folder, settings) as up:
        yield up
    assert _places_of_secrets(folder) == []


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[SyncPrefectClient]:
    settings = {
        PREFECT_API_URL: f"{up.state['prefect']}/api",
        PREFECT_API_AUTH_STRING: f"{USER}:{PASSWORD}",
    }
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of MLflow, as `.llm/env` sets them; none of S3."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


def test_who_has_no_credentials_gets_401_from_all_three(
    up: Up, tiny: ModelConfig, tokenizer: Tokenizer, credentials: None
) -> None:
    registry = Registry(up.state["mlflow"])
    versions = Versions(up.folder, tiny, tokenizer, registry)  # kept on S3, through MLflow
    versions.crown(versions.add(1))
    state = up.state
    wait_for(lambda: "model    http" in up.log)
    assert httpx.get(f"{state['model_server']}/health", timeout=PATIENCE_S).json()["version"] == "1"
    wrong = base64.b64encode(f"{USER}:{PASSWORD}x".encode()).decode()
    basic, bearer = (f"Basic {PAIR}", f"Basic {wrong}"), (f"Bearer {KEY}", "Bearer another")
    asked = {
        f"{state['prefect']}/api/admin/version": ("GET", *basic),
        f"{state['prefect']}/api/flow_runs/filter": ("POST", *basic),
        f"{state['mlflow']}/": ("GET", *basic),
        f"{state['mlflow']}/api/2.0/mlflow/experiments/get?experiment_id=0": ("GET", *basic),
        f"{state['mlflow']}/api/2.0/mlflow-artifacts/artifacts": ("GET", *basic),
        f"{state['model_server']}/v1/models": ("GET", *bearer),
    }
    for url, (method, right, other) in asked.items():
        for headers in ({}, {"Authorization": other}):
            refused = httpx.request(method, url, headers=headers, timeout=PATIENCE_S)
            assert refused.status_code == 401, url
        answer = httpx.request(
            method, url, headers={"Authorization": right}, json={}, timeout=PATIENCE_S
        )
        assert answer.status_code == 200, (url, answer.text)


@pytest.mark.skipif(bool(why_no_postgres()), reason=why_no_postgres())
def test_a_run_goes_on_while_postgresql_restarts_and_is_pushed(
    up: Up,
    client: SyncPrefectClient,
    database: Postgres | None,
    storage: dict[str, str],
    credentials: None,
) -> None:
    assert database is not None
    run = start_waiting(up, client)
    assert _places_of_secrets(up.folder) == []  # of the worktree and the records on their way, too
    database.stop()
    (up.folder / "go").touch()
    time.sleep(8)  # the stage ends, and the run wants to say so and go on
    database.start()
    run = ended(client, run)
    assert run.state_name == "Completed", text_of(client, run)
    wait_for(lambda: not list((up.folder / ".llm" / "tracking").glob("flow-*")))
    mlflow = MlflowClient(up.state["mlflow"])
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    recorded = {r.info.run_name: r for r in mlflow.search_runs([experiment.experiment_id])}
    assert recorded.keys() >= {run.name, "gather", "pretrain", "instructions", "report"}
    assert {record.info.status for record in recorded.values()} == {"FINISHED"}
    ticks = mlflow.get_metric_history(recorded["pretrain"].info.run_id, "tick")
    assert [tick.step for tick in ticks] == list(range(len(ticks)))
    names = {path.name for path in (up.folder / ".llm").glob("**/*.db")}
    assert names <= {"mlflow-auth.db"}, "something is kept in files"
    assert any(key.startswith("dvc/files/md5/") for key in _keys(storage))


def test_artifacts_go_to_s3_and_clients_need_no_credentials_of_it(
    up: Up, storage: dict[str, str], credentials: None, tmp_path: Path
) -> None:
    mlflow = MlflowClient(up.state["mlflow"])
    experiment = mlflow.create_experiment("elsewhere")
    run = mlflow.create_run(experiment).info.run_id
    mlflow.log_text(run, "kept far away", "note.txt")
    stored = [key for key in _keys(storage) if key.startswith("artifacts/") and "note" in key]
    assert len(stored) == 1
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ
    path = mlflow.download_artifacts(run, "note.txt", str(tmp_path))
    assert Path(path).read_text() == "kept far away"


def test_the_model_server_serves_weights_that_lie_on_s3(up: Up) -> None:
    answer = httpx.post(
        f"{up.state['model_server']}/v1/chat/completions",
        headers={"Authorization": f"Bearer {KEY}"},
        json={"model": "llm", "messages": [{"role": "user", "content": "?"}], "max_tokens": 3},
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 200
    assert answer.json()["model"] == "llm/1"


def test_a_shell_that_sources_the_env_file_is_let_in(up: Up) -> None:
    env_file = up.folder / ".llm" / "env"
    assert env_file.stat().st_mode & 0o777 == 0o600
    code = (
        "from mlflow import MlflowClient; MlflowClient().get_experiment('0'); "
        "from prefect.client.orchestration import get_client; "
        "client = get_client(sync_client=True); client.read_deployments(); print('in')"
    )
    done = subprocess.run(
        ["bash", "-c", f'source .llm/env && "{sys.executable}" -c "{code}"'],
        cwd=up.folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "in\n"


def test_no_secret_is_on_a_command_line_or_written_anywhere(
    up: Up, storage: dict[str, str], database: Postgres | None
) -> None:
    assert _places_of_secrets(up.folder) == []
    dumps = [database.dump(name) for name in ("prefect", "mlflow")] if database else []
    for dump in dumps:
        assert "CREATE TABLE" in dump
        assert not [secret for secret in SECRETS if secret in dump]
    lines = [" ".join(command_of(process)) for process in up.processes()]
    assert len(lines) >= 5
    assert not [line for line in lines for secret in SECRETS if secret in line]
    assert not [line for secret in SECRETS for line in up.log.splitlines() if secret in line]
    for key in _keys(storage):
        body = _s3(storage).get_object(Bucket="factory", Key=key)["Body"].read()
        assert not [secret for secret in SECRETS if secret.encode() in body], key


def test_without_credentials_nothing_starts(template: Path, tmp_path: Path) -> None:
    folder = clone(template, tmp_path / "project")
    environment = {**os.environ, **free_ports(), "PYTHONPATH": str(ROOT), "LLM_HOST": "0.0.0.0"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.up"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: LLM_HOST='0.0.0.0' lets other machines reach the servers")
    assert done.stderr.count("\n") == 1
    assert not (folder / ".llm" / "up.json").exists()
    assert not (folder / ".llm" / "logs").exists()


def _places_of_secrets(folder: Path) -> list[tuple[str, str]]:
    """Files under .llm that hold a secret, but for the one that is there for it."""
    files = [path for path in (folder / ".llm").rglob("*") if path.is_file()]
    found = []
    for path in files:
        if path == folder / ".llm" / "env":
            continue
        content = path.read_bytes()
        found += [(str(path), secret) for secret in SECRETS if secret.encode() in content]
    assert files
    return found


def _s3(storage: dict[str, str]):
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=storage["AWS_ENDPOINT_URL"],
        aws_access_key_id=storage["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=storage["AWS_SECRET_ACCESS_KEY"],
        region_name=storage["AWS_DEFAULT_REGION"],
    )


def _keys(storage: dict[str, str]) -> list[str]:
    found = _s3(storage).list_objects_v2(Bucket="factory")
    return [item["Key"] for item in found.get("Contents", [])]
