"""A run that is cancelled has no process 10 s later, and the next one goes on where it was."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling

from llm.config.base import read_yaml
from llm.config.paths import Paths
from llm.config.presets import apply_overrides, apply_preset
from llm.files import write_json
from llm.tracking.lineage import out_md5s, read_lock
from tests.conftest import ROOT
from tests.flows.client import finished, params_with, processes_of, start, text_of
from tests.flows.conftest import git
from tests.holding import hold
from tests.stages.test_pretrain import make_shards
from tests.waiting import wait_for, wait_idle_seconds

LIMIT_S = 10.0
STEPS = 40


@pytest.fixture
def pretraining(
    served: tuple[Path, SyncPrefectClient], tmp_path: Path
) -> Iterator[tuple[Path, SyncPrefectClient]]:
    """The project with the real pretrain as its only stage, on a hundred documents.

    It waits at its first checkpoint until there is `go`.
    """
    folder, client = served
    before = git(folder, "rev-parse", "HEAD")
    make_shards(Paths(**dict.fromkeys(Paths.model_fields, str(folder / "data"))), "")
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["pretrain"]
    stage["cmd"] = f"PYTHONPATH={hold(tmp_path, folder / 'go')}:$PYTHONPATH {stage['cmd']}"
    stage["deps"] = [dep for dep in stage["deps"] if dep.startswith("${")]  # without our code
    write_json(folder / "dvc.yaml", {"stages": {"pretrain": stage}})
    text = apply_preset((folder / "params.yaml").read_text(), "smoke", ROOT / "presets")
    changed = {"pretrain.max_tokens": 1024 * STEPS, "pretrain.log_interval": 10}
    (folder / "params.yaml").write_text(apply_overrides(text, changed))
    git(folder, "add", "--all")
    git(folder, "add", "--force", "data/tokenize", "data/tokenizer")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "real pretrain")
    yield folder, client
    (folder / "go").unlink(missing_ok=True)
    git(folder, "reset", "--hard", "--quiet", before)


def test_what_ignores_a_cancellation_is_killed_in_time(
    served: tuple[Path, SyncPrefectClient],
) -> None:
    folder, client = served
    parameters = {"params": params_with(folder, seed=99), "upto": "pretrain"}
    run = start(client, parameters)
    wait_for(lambda: "this is pretrain" in text_of(client, run))
    _cancel(client, run, at_work="stage.py")
    assert finished(client, run).state_name == "Cancelled"


def test_a_run_cancelled_during_pretrain_goes_on_in_the_next_one_to_the_same_bytes(
    pretraining: tuple[Path, SyncPrefectClient], tmp_path: Path
) -> None:
    folder, client = pretraining
    asked = {"upto": "pretrain"}
    run = start(client, asked)
    work = folder / ".llm" / "resume"
    wait_for(lambda: any(work.glob("pretrain-*/*")))
    _cancel(client, run, at_work="llm.stages.pretrain")
    assert finished(client, run).state_name == "Cancelled"

    (folder / "go").touch()
    again = finished(client, start(client, asked))
    assert again.state_name == "Completed"
    assert re.search(rf"pretrain: resuming after step \d+ of {STEPS}", text_of(client, again))
    assert not list(work.glob("pretrain-*"))
    git(folder, "clone", "--quiet", str(folder), str(tmp_path / "alone"))
    undisturbed = _repro(tmp_path / "alone")
    git(folder, "worktree", "add", "--quiet", str(tmp_path / "run"), f"run/{again.name}")
    assert _outs(tmp_path / "run") == undisturbed
    git(folder, "worktree", "remove", "--force", str(tmp_path / "run"))


def _cancel(client: SyncPrefectClient, run: FlowRun, at_work: str) -> None:
    """Cancel as the UI does; what the run has started, `at_work` among it, is gone within LIMIT_S."""
    processes = processes_of(run)
    assert any(at_work in command for command in processes.values())
    client.set_flow_run_state(run.id, Cancelling())
    wait_idle_seconds(lambda: not any(process.is_alive() for process in processes), LIMIT_S)
    assert processes_of(run) == {}


def _repro(folder: Path) -> dict[str, str]:
    """The outs of `dvc repro` with nothing from a cache."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
    subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=True)
    return _outs(folder)


def _outs(folder: Path) -> dict[str, str]:
    """The hashes of pretrain's outs but for its timings."""
    md5s = out_md5s(read_lock(folder / "dvc.lock")["pretrain"])
    assert "models/base" in md5s
    return {path: md5 for path, md5 in md5s.items() if not path.startswith("timings/")}
