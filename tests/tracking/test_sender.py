"""What stages record reaches MLflow once and whole, whoever is killed on the way."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from llm.files import write_json
from llm.tracking.process_id import ProcessId
from llm.tracking.runs import connect, valid_name
from llm.tracking.sender import follow
from llm.tracking.spool import OWNER_FILE, append_event, recording
from tests.waiting import wait_for

KINDS = {"gather.optim.kinds": '["a", "b"]'}
STAGE = """
import sys, time
from pathlib import Path
from llm.tracking import system
from llm.tracking.spool import recording

system.INTERVAL_S = 1e6  # no samples among the metrics
name, body = sys.argv[1:]
params = {name: {"lr": 0.1, "optim": {"kinds": ["a", "b"]}}}
with recording(name, Path(".llm"), params, ["data/gather", "llm/files.py"]) as recorder:
    exec(body)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose pipeline's process is one that the test ends; what still runs is ended."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "LLM_SPOOL", "DVC_EXP_NAME", "LLM_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    owner = subprocess.Popen(["sleep", "infinity"])
    monkeypatch.setenv("LLM_PIPELINE", "test")
    monkeypatch.setenv("LLM_PIPELINE_PID", str(owner.pid))
    (tmp_path / "stage.py").write_text(STAGE)
    yield tmp_path
    owner.kill()
    owner.wait()
    for process in _senders(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def test_every_run_arrives_once_and_ends_as_its_process_did(project: Path) -> None:
    write_json(project / "dvc.lock", _lock("gather", "data/gather", "111.dir"))
    curve = "for step in range(2500): recorder.log(step, {'train/loss': 1 / (step + 1)})"
    assert _stage("gather", curve).wait() == 0
    assert _stage("filter", "recorder.log(0, {'dropped/too short?': float('nan')})").wait() == 0
    pipeline = project / ".llm" / "tracking" / "test"
    wait_for(lambda: len(list(pipeline.glob("filter-*.sent"))) == 1)
    (sender,) = _senders(project)  # one for both stages
    sender.kill()
    sender.wait()

    assert _stage("dedup", "raise ValueError('no such band')").wait() == 1
    killed = _stage("pretrain", "recorder.log(7, {'train/loss': 3.0}); time.sleep(600)")
    spooled = pipeline.glob
    wait_for(lambda: any("train/loss" in path.read_text() for path in spooled("pretrain-*.jsonl")))
    killed.kill()
    killed.wait()
    keep = "Path('t.json').write_text('{}'); recorder.keep(Path('t.json')); Path('t.json').unlink()"
    terminated = _stage("sft", f"{keep}; sys.exit(143)")
    assert terminated.wait() == 143
    os.kill(int(os.environ["LLM_PIPELINE_PID"]), signal.SIGKILL)
    wait_for(lambda: not pipeline.exists())
    wait_for(lambda: not _senders(project))

    client, runs = _runs(project)
    parent = runs.pop("pipeline")
    assert parent.info.status == "FAILED"
    assert {name: run.info.status for name, run in runs.items()} == {
        "gather": "FINISHED",
        "filter": "FINISHED",
        "dedup": "FAILED",
        "pretrain": "KILLED",
        "sft": "KILLED",
    }
    for name, run in runs.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["stage"] == name
        assert {"git_commit", "git_dirty", "params_sha256"} <= run.data.tags.keys()
        assert run.data.tags["dep/data/gather"] == "111.dir"
        assert "dep/llm/files.py" not in run.data.tags  # the commit says which
        assert run.data.params == {f"{name}.lr": "0.1", f"{name}.optim.kinds": '["a", "b"]'}
    assert runs["gather"].data.tags["out/data/gather"] == "111.dir"
    assert runs["dedup"].data.tags["error"] == "ValueError: no such band"
    assert "dropped/too short_" in runs["filter"].data.metrics
    assert runs["pretrain"].data.metrics == {"train/loss": 3.0}
    assert [each.path for each in client.list_artifacts(runs["sft"].info.run_id)] == ["t.json"]
    history = client.get_metric_history(runs["gather"].info.run_id, "train/loss")
    assert [(m.step, m.value) for m in history] == [(i, 1 / (i + 1)) for i in range(2500)]


def test_an_unreachable_mlflow_loses_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert _stage("gather", "recorder.log(0, {'documents': 3})").wait() == 0
    pipeline = project / ".llm" / "tracking" / "test"
    for process in _senders(project):
        process.kill()
        process.wait()
    os.kill(int(os.environ["LLM_PIPELINE_PID"]), signal.SIGKILL)
    wait_for(lambda: not ProcessId.of(int(os.environ["LLM_PIPELINE_PID"])).is_alive())
    assert not follow(pipeline, retry_s=0.0, started_by_it=False)

    owner = json.loads((pipeline / OWNER_FILE).read_text())
    owner["tracking_uri"] = f"sqlite:///{project}/.llm/mlflow.db"  # it is back
    (pipeline / OWNER_FILE).write_text(json.dumps(owner))
    assert follow(pipeline, retry_s=0.0, started_by_it=False)
    assert not pipeline.exists()
    _, runs = _runs(project)
    assert runs["gather"].data.metrics == {"documents": 3.0}
    assert runs["pipeline"].info.status == "FINISHED"


def test_what_mlflow_refuses_is_passed_over_and_all_else_arrives(project: Path) -> None:
    body = """
recorder.write("params", params={"a": "1", "name?": "1", "name!": "2", "b": "2"})  # both name_
recorder.log(3, {"train/loss": 2.0})
recorder.tag({"kept": "1"})
"""
    assert _stage("gather", body).wait() == 0
    os.kill(int(os.environ["LLM_PIPELINE_PID"]), signal.SIGKILL)
    wait_for(lambda: not (project / ".llm" / "tracking" / "test").exists())
    _, runs = _runs(project)
    run = runs["gather"]
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"train/loss": 2.0}
    assert run.data.tags["kept"] == "1"
    assert run.data.params.pop("name_") == "1"
    assert run.data.params == {"a": "1", "b": "2", "gather.lr": "0.1", **KINDS}


def test_a_deleted_run_does_not_stop_the_others(project: Path) -> None:
    assert _stage("gather", "recorder.log(0, {'documents': 1})").wait() == 0
    pipeline = project / ".llm" / "tracking" / "test"
    wait_for(lambda: len(list(pipeline.glob("gather-*.sent"))) == 1)
    for process in _senders(project):
        process.kill()
        process.wait()
    client, runs = _runs(project)
    client.delete_run(runs["gather"].info.run_id)
    (spool,) = pipeline.glob("gather-*.jsonl")
    append_event(spool, "metrics", step=1, values={"documents": 2.0, "bytes": 3.0})
    assert _stage("filter", "recorder.log(0, {'documents': 1})").wait() == 0
    os.kill(int(os.environ["LLM_PIPELINE_PID"]), signal.SIGKILL)
    wait_for(lambda: not pipeline.exists())
    client, runs = _runs(project)
    assert runs["filter"].data.metrics == {"documents": 1.0}
    assert runs["pipeline"].info.status == "FINISHED"


def test_the_run_of_a_plain_repro_has_all_params_and_every_stages_last_metrics(
    project: Path,
) -> None:
    write_json(project / "params.yaml", {"gather": {"lr": 0.1}})
    entry = {"params": {"params.yaml": {"gather": {"lr": 0.1}}}}
    write_json(project / "dvc.lock", {"stages": {"gather": entry, "filter": {}, "sft": {}}})
    write_json(project / "metrics" / "gather.json", {"val/bpb": 2.0, "sft": {"exact": 0.5}})
    write_json(project / "metrics" / "filter.json", {"kept": 7})  # it was not run: DVC had it
    assert _stage("gather", "recorder.log(0, {'val/bpb': 2.0})").wait() == 0
    os.kill(int(os.environ["LLM_PIPELINE_PID"]), signal.SIGKILL)
    wait_for(lambda: not (project / ".llm" / "tracking" / "test").exists())
    _, runs = _runs(project)
    assert runs["gather"].data.metrics == {"val/bpb": 2.0}
    parent = runs["pipeline"].data
    assert parent.metrics == {"gather/val/bpb": 2.0, "gather/sft.exact": 0.5, "filter/kept": 7.0}
    assert parent.params == {"gather.lr": "0.1"}


def test_recording_can_be_switched_off(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TRACKING", "off")
    with recording("gather", project / ".llm", {}, []) as recorder:
        recorder.log(0, {"documents": 3})
    assert not (project / ".llm").exists()


def test_mlflow_accepts_every_name() -> None:
    assert valid_name("dropped/a b.c-d_e") == "dropped/a b.c-d_e"
    assert valid_name("/x//../ratio > 0.3/") == "x/ratio _ 0.3"
    assert valid_name("//") == "_"
    assert len(valid_name("x" * 300)) == 250


def _stage(name: str, body: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "stage.py", name, body], stderr=subprocess.DEVNULL)


def _lock(stage: str, path: str, md5: str) -> dict[str, object]:
    return {"stages": {stage: {"outs": [{"path": path, "md5": md5}]}}}


def _runs(project: Path) -> tuple[MlflowClient, dict[str, Run]]:
    """Every run by its stage's name; the parent is `pipeline`."""
    uri = f"sqlite:///{project}/.llm/mlflow.db"
    client, experiment_id = connect(uri, project / ".llm")
    found = client.search_runs([experiment_id])
    runs = {run.data.tags.get("stage", "pipeline"): run for run in found}
    assert len(runs) == len(found)
    return client, runs


def _senders(project: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if "llm.tracking.sender" in command and str(project) in command[-1]:
            found.append(process)
    return found
