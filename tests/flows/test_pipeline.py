"""`make up` on loopback: runs asked for there work beside the checkout, are seen, and can be ended."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Running

from flows.alive import alive, crash_stale_runs
from flows.pipeline import build_llm
from flows.worktree import git
from llm.config.base import read_yaml
from tests.flows.client import (
    artifacts_of,
    finished,
    log_of,
    params_with,
    start,
    sub_flows,
    text_of,
)
from tests.waiting import wait_for


def test_a_run_finishes_beside_the_checkout_with_every_log_and_record(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    run = finished(client, start(client, {"overrides": {"pretrain.seed": 54}}))
    assert run.state_name == "Completed"
    text = text_of(client, run)
    for stage in ("pretrain", "report"):  # others may be in the cache
        assert f"{stage} | this is {stage}" in text

    branch = f"run/{run.name}"
    assert git(folder, "log", "--format=%s", branch).split("\n") == [
        f"results of {run.name}",
        f"params of {branch}",
        "first",
    ]
    assert json.loads(git(folder, "show", f"{branch}:metrics/pretrain.json")) == {"seed": 54}
    locked = git(folder, "show", f"{branch}:dvc.lock")
    for stage in ("gather", "pretrain", "instructions", "report"):
        assert f"{stage}:" in locked
    assert git(folder, "status", "--porcelain") == ""
    assert not list((folder / ".llm" / "worktrees").glob(f"{run.name}-*"))

    state = json.loads((folder / ".llm" / "up.json").read_text())
    wait_for(lambda: not list((folder / ".llm" / "tracking").glob("flow-*")))
    mlflow = MlflowClient(state["mlflow"])
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    ids = [experiment.experiment_id]
    (parent,) = mlflow.search_runs(ids, f"tags.prefect_flow_run = '{run.id}'")
    children = mlflow.search_runs(ids, f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    recorded = {child.info.run_name: child for child in children}
    assert recorded.keys() >= {"pretrain", "report"}
    assert parent.info.run_name == run.name
    assert parent.data.params["pretrain.seed"] == "54"
    for child in (parent, *recorded.values()):
        assert child.info.status == "FINISHED"
    for name, child in recorded.items():
        assert child.data.tags[f"out/data/{name}"] in locked
        assert child.data.tags["git_dirty"] == "false"


def test_the_same_again_runs_no_stage_and_shows_its_progress(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    first = finished(client, start(client, {}))
    again = finished(client, start(client, {}))
    text = text_of(client, again)
    assert "4 of 4 stages are in the cache" in text
    assert "report | is in the cache: checked out" in text
    assert "this is" not in text
    files = ["dvc.lock", "metrics"]
    assert git(folder, "diff", f"run/{first.name}", f"run/{again.name}", "--", *files) == ""
    shown = {artifact.key: artifact for artifact in artifacts_of(client, again)}
    assert shown["progress"].data == 100
    assert shown["progress"].description == "4 of 4 stages"
    assert f"git checkout run/{again.name}" in str(shown["links"].data)
    assert "/#/runs/" in str(shown["links"].data)


def test_two_at_once_with_the_same_params_compute_each_stage_once(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    asked = {"overrides": {"pretrain.seed": 50}}
    first = start(client, asked)
    wait_for(lambda: "pretrain | this is pretrain" in text_of(client, first))
    second = start(client, asked)
    waits = f"pretrain | waits: {first.name} makes the same at this moment"
    wait_for(lambda: waits in text_of(client, second))
    (folder / "go").touch()
    first, second = finished(client, first), finished(client, second)
    assert (first.state_name, second.state_name) == ("Completed", "Completed")
    text = text_of(client, second)
    assert "Stage 'pretrain' is cached" in text
    assert "this is pretrain" not in text


def test_two_at_once_with_different_params_are_both_right(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    runs = [start(client, {"overrides": {"pretrain.seed": seed}}) for seed in (51, 52)]
    for seed, run in zip((51, 52), runs, strict=True):
        done = finished(client, run)
        assert done.state_name == "Completed"
        metrics = git(folder, "show", f"run/{done.name}:metrics/pretrain.json")
        assert json.loads(metrics) == {"seed": seed}


def test_a_stage_that_something_killed_is_tried_once_more(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    _, client = served
    run = finished(client, start(client, {"overrides": {"pretrain.seed": 66}}))
    assert run.state_name == "Completed"
    text = text_of(client, run)
    assert text.count("pretrain | this is pretrain") == 2
    assert "tries again in 5 s" in text


def test_only_makes_a_stage_again_from_what_the_cache_has(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    _, client = served
    done = finished(client, start(client, {"only": ["report"]}))
    assert done.state_name == "Completed"
    text = text_of(client, done)
    assert "report | this is report" in text
    assert text.count("this is") == 1
    asked = {"only": ["report"], "overrides": {"pretrain.seed": 77}}
    refused = finished(client, start(client, asked))
    assert refused.state_name == "Failed"
    assert "what it reads is not made yet with these params: pretrain;" in text_of(client, refused)


def test_a_group_is_made_up_to_its_end(served: tuple[Path, SyncPrefectClient]) -> None:
    folder, client = served
    done = finished(client, start(client, {"overrides": {"pretrain.seed": 53}}, "train/default"))
    assert done.state_name == "Completed"
    locked = git(folder, "show", f"run/{done.name}:dvc.lock")
    assert "pretrain:" in locked
    assert "report:" not in locked
    assert "pretrain | this is pretrain" in text_of(client, done)


def test_what_cannot_be_is_refused_before_any_work(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    with pytest.raises(PrefectHTTPStatusError, match="is not one of"):
        start(client, {"upto": "trian"})
    values = params_with(folder, seed=1)
    values["dpo"]["beta"] = 0
    with pytest.raises(PrefectHTTPStatusError, match="0 is less than or equal to the minimum of 0"):
        start(client, {"params": values})
    refused = finished(client, start(client, {"overrides": {"dpo.betta": 1}}))
    assert refused.state_name == "Failed"
    assert refused.state is not None
    message = str(refused.state.message)
    assert message.endswith("no key 'dpo.betta'; did you mean 'dpo.beta'?")
    assert log_of(client, refused).count(message) == 1
    assert "Traceback" not in text_of(client, refused)
    assert "stages are in the cache" not in text_of(client, refused)
    assert not list((folder / ".llm" / "worktrees").glob(f"{refused.name}-*"))
    assert git(folder, "branch", "--list", f"run/{refused.name}*") == ""

    refused = finished(
        client, start(client, {"overrides": {"model.n_layer": 4_000_000, "pretrain.seed": 88}})
    )
    assert refused.state_name == "Failed"
    assert refused.state is not None
    assert "pretrain.micro_batch_size=8 need" in str(refused.state.message)
    assert "this is gather" not in text_of(client, refused)
    assert git(folder, "branch", "--list", f"run/{refused.name}*") == ""


def test_refresh_rebuilds_only_when_the_corpus_has_changed(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    finished(client, start(client, {}))
    schedules = client.read_deployment_by_name("refresh/default").schedules
    assert [schedule.active for schedule in schedules] == [False]

    same = finished(client, start(client, {}, "refresh/default"))
    assert same.state_name == "Completed"
    assert "The corpus is the same: nothing is built." in text_of(client, same)
    assert git(folder, "branch", "--list", f"run/{same.name}*") == ""

    (folder / "words").write_text("new words")  # what gather reads, and DVC does not know
    changed = finished(client, start(client, {}, "refresh/default"))
    assert changed.state_name == "Completed"
    (shown,) = [a for a in artifacts_of(client, changed) if a.key == "refresh"]
    assert "The corpus has changed" in str(shown.data)
    (built,) = sub_flows(client, changed)
    assert built.state_name == "Completed"
    text = text_of(client, built)
    assert "1 of 4 stages are in the cache" in text
    assert "gather | is in the cache" in text
    assert "pretrain | this is pretrain" in text
    assert not (folder / ".llm" / "refresh.pending").exists()


def test_a_failing_stage_fails_the_run_with_its_message_and_what_follows_does_not_run(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    run = finished(client, start(client, {"params": params_with(folder, seed=13)}))
    assert run.state_name == "Failed"
    assert run.state is not None
    assert "no such luck" in str(run.state.message)
    assert "report |" not in text_of(client, run)
    (kept,) = (folder / ".llm" / "worktrees").glob(f"{run.name}-*")  # a retry continues there
    assert read_yaml(kept / "params.yaml")["pretrain"]["seed"] == 13
    assert git(folder, "status", "--porcelain") == ""


def test_a_run_whose_process_is_gone_is_marked_crashed(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    gone = client.create_flow_run(build_llm, state=Running())
    here = client.create_flow_run(build_llm, state=Running())
    with alive(folder, str(here.id)):
        assert crash_stale_runs(folder) == 1
    assert client.read_flow_run(gone.id).state_name == "Crashed"
    assert client.read_flow_run(here.id).state_name == "Running"


def test_down_says_when_nothing_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.down"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "nothing runs\n"
