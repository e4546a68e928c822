"""Runs are compared under the same names, wherever they are kept."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm.files import write_json
from llm.tracking.runs import connect

FIRST = {"paths": {"work": ".llm"}, "register": {"name": "llm"}, "sft": {"lr": 0.1, "seed": 1}}
SECOND = {**FIRST, "sft": {"lr": 0.2, "seed": 1}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a branch of a run, and a pipeline with a stage in MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _git(tmp_path, "init", "-q")
    _commit(tmp_path, FIRST, 4.0)
    _git(tmp_path, "checkout", "-q", "-b", "run/calm-hare")
    _commit(tmp_path, SECOND, 3.5)
    _git(tmp_path, "checkout", "-q", "-")
    work = tmp_path / ".llm"
    work.mkdir()
    client, experiment = connect(f"sqlite:///{work}/mlflow.db", work)
    for name, prefix, tags in (("owl", "sft/", {}), ("sft", "", {"stage": "sft"})):
        run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        client.log_param(run, "sft.lr", "0.3")
        client.log_metric(run, f"{prefix}val/loss", 3.0)
        client.log_metric(run, "system/memory", 9.0) if tags else None
    return tmp_path


def test_params_and_metrics_that_differ_are_shown_beside_the_first(project: Path) -> None:
    done = _llm(project, "compare", ".", "calm-hare")
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert ["param", ".", "calm-hare"] in rows
    assert ["sft.lr", "0.1", "0.2"] in rows
    assert ["sft/val/loss", "4", "3.5", "(-0.5)"] in rows
    assert "seed" not in done.stdout
    assert "sft.seed" in _llm(project, "compare", ".", "calm-hare", "--all").stdout


def test_a_branch_a_pipelines_run_and_a_stages_run_have_the_same_names(project: Path) -> None:
    found = json.loads(_llm(project, "compare", "run/calm-hare", "owl", "sft", "--json").stdout)
    assert found["params"] == {"sft.lr": ["0.2", "0.3", "0.3"]}
    assert found["metrics"] == {"sft/val/loss": [3.5, 3.0, 3.0]}


def test_what_is_equal_is_said_to_be(project: Path) -> None:
    said = _llm(project, "compare", ".", "HEAD").stdout.splitlines()
    assert said == ["the params are equal", "the metrics are equal, or there are none"]


def test_a_name_that_nothing_has_is_one_error(project: Path) -> None:
    done = _llm(project, "compare", ".", "no-such-run", code=1)
    assert done.stderr.startswith("error: nothing goes by the name 'no-such-run'")
    assert "no version 'no-such-run' of llm" in done.stderr
    assert "Traceback" not in done.stderr
    assert "needs two runs or more" in _llm(project, "compare", ".", code=1).stderr


def _commit(folder: Path, params: dict[str, Any], loss: float) -> None:
    entry = {"params": {"params.yaml": {"sft": params["sft"]}}}
    write_json(folder / "params.yaml", params)
    write_json(folder / "dvc.lock", {"stages": {"sft": entry}})
    write_json(folder / "metrics" / "sft.json", {"val/loss": loss})
    _git(folder, "add", ".")
    _git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "results")


def _git(folder: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=folder, check=True)


def _llm(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from llm.cli import run; run()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    return done
