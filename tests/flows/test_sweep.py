"""A sweep on loopback: points beside each other, a failing one among them, and none left behind."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling

from flows.sweep_plan import checked, committed_params
from llm.config.base import parse_yaml
from llm.errors import ConfigError
from llm.git import git
from tests.flows.client import artifacts_of, ended, finished, log_of, start, text_of
from tests.flows.up_process import Up, running_up
from tests.sweep.plans import plan
from tests.waiting import wait_for

STAGE = """
import sys, time
from pathlib import Path
from llm.config.base import read_yaml
from llm.files import write_json, write_text
from llm.tracking.spool import recording

WAIT, FAIL, SLEEP = 2, 13, 90

name = sys.argv[1]
seed = read_yaml(Path("params.yaml"))["pretrain"]["seed"] if name == "pretrain" else 0
with recording(name, Path(".llm"), {name: {"seed": seed}}, []):
    if seed == FAIL:
        raise SystemExit("no such luck")
    time.sleep(600 if seed > SLEEP else 0)
    while seed == WAIT and not Path(GO).exists():
        time.sleep(0.1)
    rows = [f"{step},{3 + seed / step}" for step in range(1, 9)]
    write_text(Path("plots") / f"{name}.csv", "\\n".join(["step,train/loss", *rows]))
    write_text(Path("data") / name, f"{name} {seed}")
    write_json(Path("metrics") / f"{name}.json", {"seed": seed})
(Path(MADE) / f"{name}-{seed}").touch()
"""


@pytest.fixture(scope="module")
def served(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Up, SyncPrefectClient]]:
    """The small project, with stages of our own and its servers; at the end nothing is left."""
    folder = tmp_path_factory.mktemp("sweep") / "project"
    git(template, "clone", "--quiet", str(template), str(folder))
    _write_stages(folder)
    with (
        running_up(folder, {}) as up,
        temporary_settings({PREFECT_API_URL: f"{up.state['prefect']}/api"}),
        get_client(sync_client=True) as client,
    ):
        yield up, client


def test_points_run_side_by_side_and_neither_one_that_fails_nor_a_killed_server_ends_them(
    served: tuple[Up, SyncPrefectClient],
) -> None:
    up, client = served
    folder = up.folder
    run = _start(client, space={"pretrain.seed": [2, 13], "sft.seed": [1, 2]})
    wait_for(lambda: len(_running(client, run)) == 2)
    up.kill("prefect")
    (folder / "go").touch()
    run = ended(client, run)
    assert run.state is not None
    assert run.state_name == "Completed", run.state.message
    assert "best: point 1 (pretrain.seed=2, sft.seed=1), 2" in str(run.state.message)

    kept = json.loads((folder / ".llm" / "sweeps" / f"{run.name}.json").read_text())
    assert kept["best"] == 1
    rows = kept["rows"]
    assert [row["state"] for row in rows] == ["completed", "completed", "failed", "failed"]
    assert [row["value"] for row in rows] == [2.0, 2.0, None, None]
    assert "no such luck" in rows[2]["note"]
    children = _children(client, run)
    starts = sorted(child.start_time for child in children.values() if child.start_time)
    ends = sorted(child.end_time for child in children.values() if child.end_time)
    assert starts[1] < ends[0]  # two at once
    assert starts[2] > ends[0]  # and no third
    for row in rows:
        assert row["branch"] == f"run/{run.name}-{row['point']}"
        params = parse_yaml(git(folder, "show", f"{row['branch']}:params.yaml"), "")
        assert params["pretrain"]["seed"] == row["values"]["pretrain.seed"]
    assert git(folder, "status", "--porcelain") == ""

    page = (folder / ".llm" / "sweeps" / f"{run.name}.html").read_text()
    assert page.count("<svg") == 3  # the points, and each param; both curves are the same
    assert page.count(rows[0]["mlflow_url"]) == 1
    artifacts = {str(found.key): found.data for found in artifacts_of(client, run)}
    assert artifacts["progress"] == 100
    table = json.loads(artifacts["points"])
    assert [row["best"] for row in table] == ["★", "", "", ""]
    assert "data:image/svg+xml" in artifacts["sweep"]
    _check_records(folder, run.name, rows)


def test_a_sweep_of_the_same_points_takes_them_from_the_cache(
    served: tuple[Up, SyncPrefectClient],
) -> None:
    up, client = served
    folder = up.folder
    mark = time.time()
    asked = {"method": "seeds", "samples": 2, "seed": 2, "seed_sections": ["pretrain"]}
    run = ended(client, _start(client, **asked, register_best=True))
    assert run.state is not None
    assert run.state_name == "Completed", run.state.message
    kept = json.loads((folder / ".llm" / "sweeps" / f"{run.name}.json").read_text())
    (group,) = kept["groups"]
    assert (group["n"], group["mean"], group["stderr"]) == (2, 2.5, 0.5)
    assert "pretrain: train/loss" in (folder / ".llm" / "sweeps" / f"{run.name}.html").read_text()
    best = f"run/{run.name}-best"
    assert f"registered by {best}" in str(run.state.message)
    assert json.loads(git(folder, "show", f"{best}:metrics/pretrain.json")) == {"seed": 2}
    assert "report:" in git(folder, "show", f"{best}:dvc.lock")  # the whole chain
    made = [path for path in (folder / "made").iterdir() if path.stat().st_mtime > mark]
    assert [path.name for path in made if path.name.startswith("pretrain")] == ["pretrain-3"]


def test_cancelling_ends_the_points_that_run_and_leaves_nothing(
    served: tuple[Up, SyncPrefectClient],
) -> None:
    up, client = served
    folder = up.folder
    run = _start(client, space={"pretrain.seed": [99, 98, 97, 96]})
    wait_for(lambda: len(_at_work(folder)) == 2)
    client.set_flow_run_state(run.id, Cancelling())
    run = ended(client, run)
    assert run.state_name == "Cancelled"
    wait_for(lambda: not _at_work(folder))
    wait_for(lambda: len(_children(client, run)) == 2)  # the others have never begun
    wait_for(lambda: {c.state_name for c in _children(client, run).values()} == {"Cancelled"})
    kept = json.loads((folder / ".llm" / "sweeps" / f"{run.name}.json").read_text())
    states = [row["state"] for row in kept["rows"]]
    assert states == ["cancelled", "cancelled", "waiting", "waiting"]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"model.n_embd": [128, 100], "model.n_head": [4, 3], "model.n_kv_head": [1]},
            "n_embd=128 must be a multiple of n_head=3",
        ),
        ({}, "space: method='grid' needs at least one key of params.yaml"),
    ],
)
def test_a_sweep_that_cannot_be_starts_no_point_and_says_why(
    served: tuple[Up, SyncPrefectClient], space: dict[str, Any], message: str
) -> None:
    _, client = served
    run = finished(client, _start(client, space=space))
    assert run.state_name == "Failed"
    assert run.state is not None
    assert message in str(run.state.message)
    assert log_of(client, run).count(str(run.state.message)) == 1
    assert "Traceback" not in text_of(client, run)
    assert not _children(client, run)


def test_every_error_is_told_before_anything_starts(project: Path) -> None:
    asked = plan().model_dump() | {"space": {"pretrain.seed": [1, -1], "model.n_head": [4, 3]}}
    with pytest.raises(ConfigError) as caught:
        checked(project, asked | {"upto": "gather"})
    message = str(caught.value)
    assert "upto='gather' does not reach pretrain" in message
    assert "n_embd=128 must be a multiple of n_head=3" in message
    assert "pretrain.seed=-1: Input should be greater than or equal to 0" in message
    with pytest.raises(ConfigError, match="no stage 'pretain'; did you mean 'pretrain'"):
        checked(project, asked | {"metric": "pretain/val/loss"})


def test_points_start_from_what_is_committed_and_the_preset(project: Path) -> None:
    committed = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text("pretrain: {seed: 5}\n")
    assert committed_params(project, None) == committed.strip()


def _check_records(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Each point's run is the sweep's in MLflow, and the sweep's own run keeps the page."""
    state = json.loads((folder / ".llm" / "up.json").read_text())
    mlflow = MlflowClient(state["mlflow"])
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    tagged = f"tags.sweep = '{name}'"
    found = {r.info.run_name: r for r in mlflow.search_runs([experiment.experiment_id], tagged)}
    own = found.pop(name)
    assert {file.path for file in mlflow.list_artifacts(own.info.run_id)} == {
        f"{name}.html",
        f"{name}.json",
    }
    assert own.data.metrics == {"pretrain/seed": 2.0}
    assert found.keys() == {f"{name}-{number}" for number in (1, 2, 3, 4)}
    first: Run = found[f"{name}-1"]
    assert first.info.run_id == rows[0]["mlflow_run"]
    assert first.data.tags["sweep_point"] == "1"
    assert first.data.tags["sweep/pretrain.seed"] == "2"
    assert first.data.params["pretrain.seed"] == "2"
    wait_for(lambda: "pretrain/seed" in mlflow.get_run(first.info.run_id).data.metrics)
    metrics = mlflow.get_run(first.info.run_id).data.metrics
    assert metrics == {"gather/seed": 0.0, "pretrain/seed": 2.0}


def _write_stages(folder: Path) -> None:
    """Stages that wait for `go` at most, have a curve, and say in `made` that they have run."""
    (folder / "made").mkdir()
    places = {name: repr(str(folder / name.lower())) for name in ("MADE", "GO")}
    (folder / "stage.py").write_text(re.sub("MADE|GO", lambda name: places[name[0]], STAGE))
    graph = (folder / "dvc.yaml").read_text()
    (folder / "dvc.yaml").write_text(re.sub(r"outs: \[data/(\w+)", r"\g<0>, plots/\1.csv", graph))
    with (folder / ".gitignore").open("a") as ignored:
        ignored.write("/plots\n/made\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    git(folder, *identity, "commit", "--quiet", "--all", "-m", "curves")


def _start(client: SyncPrefectClient, **parameters: Any) -> FlowRun:
    asked = {"metric": "pretrain/seed", "upto": "pretrain", **parameters}
    return start(client, asked, "sweep/default")


def _children(client: SyncPrefectClient, run: FlowRun) -> dict[str, FlowRun]:
    named = FlowRunFilter(name=FlowRunFilterName(like_=f"{run.name}-"))
    return {child.name: child for child in client.read_flow_runs(flow_run_filter=named)}


def _running(client: SyncPrefectClient, run: FlowRun) -> list[FlowRun]:
    return [c for c in _children(client, run).values() if c.state_name == "Running"]


def _at_work(folder: Path) -> list[psutil.Process]:
    """The stages' processes that sleep in worktrees of the project."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        command = process.info["cmdline"] or []
        in_worktree = str(folder / ".llm" / "worktrees") in (process.info["cwd"] or "")
        if in_worktree and command[-2:] == ["stage.py", "pretrain"]:
            found.append(process)
    return found
