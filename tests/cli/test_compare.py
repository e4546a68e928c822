"""Runs are compared under the same names, wherever they are kept."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm.files import write_csv, write_json
from llm.tracking.runs import connect
from tests.waiting import PATIENCE_S

FIRST = {"paths": {"work": ".llm"}, "register": {"name": "llm"}, "sft": {"lr": 0.1, "seed": 1}}
SECOND = {**FIRST, "sft": {"lr": 0.2, "seed": 1}}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a branch of a run, and a pipeline with a stage in MLflow."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    _git(tmp_path, "init", "-q")
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").touch()
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
        for step in range(1, 6) if tags else ():
            client.log_metric(run, "train/loss", 6.0 / step, step=step)
            client.log_metric(run, "system/memory", 9.0, step=step)
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
    assert found["metrics"] == {
        "sft/val/loss": [3.5, 3.0, 3.0],
        "sft/train/loss": [None, None, 1.2],
    }


def test_what_is_equal_is_said_to_be(project: Path) -> None:
    said = _llm(project, "compare", ".", "HEAD").stdout.splitlines()
    assert said == ["the params are equal", "the metrics are equal, or there are none"]


def test_a_name_that_nothing_has_is_one_error(project: Path) -> None:
    done = _llm(project, "compare", ".", "no-such-run", code=1)
    assert done.stderr.startswith("error: nothing goes by the name 'no-such-run'")
    assert "no version 'no-such-run' of llm" in done.stderr
    assert "Traceback" not in done.stderr
    assert "needs two runs or more" in _llm(project, "compare", ".", code=1).stderr


def test_learning_curves_are_drawn_over_each_other(project: Path) -> None:
    done = _llm(project, "compare", ".", "calm-hare")
    plot = done.stdout[done.stdout.index("sft: val/loss") :]
    assert "━━ .: 8 → 4\n" in plot
    assert "━━ calm-hare: 7 → 3.5\n" in plot
    assert plot.count("│") >= 8
    assert any(0x2800 < ord(character) < 0x2900 for character in plot)
    assert "train/loss" not in plot  # equal in both
    mlflow = _llm(project, "compare", "calm-hare", "sft").stdout
    assert "━━ sft: 6 → 1.2\n" in mlflow


def test_the_page_has_every_curve_and_asks_for_nothing_else(project: Path) -> None:
    _llm(project, "compare", ".", "calm-hare", "--html", "beside.html")
    page = (project / "beside.html").read_text()
    assert not re.search(
        r"<(script|link|img|iframe)\b|url\((?!#)|@import|https?://(?!www.w3)", page
    )
    (label,) = re.findall(r'<svg role="img" aria-label="([^"]*)"', page)
    assert label == "sft: val/loss over the steps, a line per run; at the end . 4, calm-hare 3.5."
    assert "<td>sft.lr</td>" in page
    assert "3.5 (-0.5)" in page


def _commit(folder: Path, params: dict[str, Any], loss: float) -> None:
    rows = [{"step": step, "train/loss": 9 / step, "val/loss": 2 * loss / step} for step in (1, 2)]
    write_csv(folder / "plots" / "sft.csv", rows)
    content = (folder / "plots" / "sft.csv").read_bytes()
    md5 = hashlib.md5(content).hexdigest()
    cached = folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(content)
    entry = {
        "params": {"params.yaml": {"sft": params["sft"]}},
        "outs": [{"path": "plots/sft.csv", "md5": md5}],
    }
    write_json(folder / "params.yaml", params)
    write_json(folder / "dvc.lock", {"stages": {"sft": entry}})
    write_json(folder / "metrics" / "sft.json", {"val/loss": loss})
    _git(folder, "add", "params.yaml", "dvc.lock", "metrics", "plots")
    _git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "results")


def _git(folder: Path, *args: str) -> None:
    subprocess.run(["git", *args], cwd=folder, check=True)


def _llm(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from llm.cli import run; run()", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == code, done.stderr
    return done
