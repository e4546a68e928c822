"""Stages as real processes: refusal before work, one at a time, ended with their parent."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from llm.config.paths import Paths
from llm.errors import ConfigError, LLMError
from llm.process import exclusive, stage_deps, worker_count
from tests.conftest import ROOT
from tests.waiting import PATIENCE_S, wait_for

STAGE = """
import time
from pathlib import Path
from llm.config.corpus import ExtractConfig
from llm.process import main

def run(ctx, *, extract):
    Path("started").write_text(str(ctx.work))
    time.sleep(float(Path("seconds").read_text()))
    ctx.timings["rate"] = 5.0
    return {"documents": {"kept": 3}, "languages": ["en"]}

if __name__ == "__main__":
    main("extract", run, extract=ExtractConfig)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "dvc.yaml").write_text("stages: {extract: {deps: ['${paths.data}/gather']}}\n")
    (tmp_path / "data" / "gather").mkdir(parents=True)
    (tmp_path / "toy.py").write_text(STAGE)
    (tmp_path / "seconds").write_text("0")
    return tmp_path


def start(project: Path, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        command or [sys.executable, "-m", "toy"],
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def test_a_stage_writes_metrics_and_timings_and_forgets_its_work(project: Path) -> None:
    stage = start(project)
    assert stage.communicate(timeout=PATIENCE_S)[1] == ""
    assert stage.returncode == 0
    metrics = json.loads((project / "metrics" / "extract.json").read_text())
    assert metrics == {"documents": {"kept": 3}, "languages": ["en"]}
    timings = json.loads((project / "timings" / "extract.json").read_text())
    assert timings["rate"] == 5.0
    assert timings["peak_rss_mb"] > 5
    assert not list((project / ".llm" / "work").glob("*"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "min_characters: 20",
            "min_character: 20",
            "extract.min_character: unknown key; did you mean",
        ),
        ("  beta: 0.1", "  beta: none", "dpo.beta='none'"),  # another stage's section
        ("n_head: 4", "n_head: 7", "must be a multiple of n_head=7"),
        ("n_layer: 4", "n_layer: 4_000_000", "micro_batch_size=8 need"),  # more than any memory
    ],
)
def test_wrong_params_are_refused_before_any_work(
    project: Path, old: str, new: str, message: str
) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new, 1))
    stage = start(project)
    errors = stage.communicate(timeout=PATIENCE_S)[1]
    assert stage.returncode == 1
    assert message in errors
    assert "Traceback" not in errors
    assert not (project / "started").exists()


def test_a_missing_dependency_is_named_with_what_makes_it(project: Path) -> None:
    (project / "data" / "gather").rmdir()
    stage = start(project)
    assert (
        "data/gather does not exist; run `dvc repro extract`"
        in stage.communicate(timeout=PATIENCE_S)[1]
    )
    assert stage.returncode == 1


def test_sigterm_exits_143(project: Path) -> None:
    (project / "seconds").write_text("600")
    stage = start(project)
    wait_for((project / "started").exists)
    stage.send_signal(signal.SIGTERM)
    stage.communicate(timeout=PATIENCE_S)
    assert stage.returncode == 143


def test_a_stage_ends_with_its_parent(project: Path) -> None:
    """The parent is killed as `dvc` may be: without a chance to end its child."""
    (project / "seconds").write_text("600")
    code = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'toy'])"
    parent = start(project, sys.executable, "-c", code)
    wait_for((project / "started").exists)
    [child] = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert psutil.wait_procs([child], timeout=PATIENCE_S)[0] == [child]


def test_a_lock_is_held_by_one_and_leaves_no_file(tmp_path: Path) -> None:
    waits: list[str] = []
    with exclusive(tmp_path / "extract.lock"):
        with exclusive(tmp_path / "filter.lock"):
            pass
        with (
            pytest.raises(LLMError, match="another process runs this stage"),
            exclusive(tmp_path / "extract.lock", 0.3, lambda: waits.append("once")),
        ):
            pass
    assert waits == ["once"]
    with exclusive(tmp_path / "extract.lock", 0.3):
        pass
    assert not list(tmp_path.iterdir())


def test_work_in_progress_of_other_runs_is_left_alone_where_runs_share_it(
    project: Path, monkeypatch
) -> None:
    (project / ".llm" / "work" / "extract-former").mkdir(parents=True)
    (project / "shared" / "extract-other").mkdir(parents=True)
    monkeypatch.setenv("LLM_WORK", str(project / "shared"))
    assert start(project).wait(timeout=PATIENCE_S) == 0
    assert (project / "started").read_text().startswith(str(project / "shared" / "extract-"))
    assert [path.name for path in (project / "shared").iterdir()] == ["extract-other"]
    monkeypatch.delenv("LLM_WORK")
    assert start(project).wait(timeout=PATIENCE_S) == 0
    assert not list((project / ".llm" / "work").iterdir())


def test_what_may_go_well_later_exits_75(project: Path) -> None:
    toy = STAGE.replace(
        "    time.sleep", '    raise TrackingError("MLflow is away")\n    time.sleep'
    )
    toy = toy.replace("import time", "import time\nfrom llm.errors import TrackingError", 1)
    (project / "toy.py").write_text(toy)
    stage = start(project)
    assert stage.communicate(timeout=PATIENCE_S)[1] == "error: extract: MLflow is away\n"
    assert stage.returncode == os.EX_TEMPFAIL == 75


def test_deps_have_their_paths_filled_in(paths: Paths, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert f"{paths.data}/gather" in stage_deps("extract", paths)


def test_workers_are_a_whole_number(monkeypatch) -> None:
    monkeypatch.setenv("LLM_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.setenv("LLM_WORKERS", "many")
    with pytest.raises(ConfigError, match="LLM_WORKERS='many' must be a whole number"):
        worker_count()
