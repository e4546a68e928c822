"""The whole chain at smoke size, as a person runs it: `dvc repro` in a copy of the project."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from llm.config.presets import apply_preset
from llm.config.stages import STAGES
from llm.files import fingerprint
from llm.tracking.process_id import ProcessId
from tests.conftest import ROOT
from tests.holding import hold
from tests.processes import command_of, environment_of
from tests.waiting import HANGS_S, PATIENCE_S, wait_for

pytestmark = pytest.mark.chain
TRAINING = {"pretrain": "base", "sft": "sft", "dpo": "dpo"}
FORCE = ("dvc", "repro", "--force", "--single-item", "--no-run-cache")  # nothing from a cache


class Project:
    """A copy of the working tree as a git repository of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {
            k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")
        }  # mlflow sets some
        self.env = clean | {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LLM_TRACKING": "on",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/.llm/mlflow.db",
        }

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=HANGS_S
        )

    def check(self, *command: str) -> str:
        done = self.run(*command)
        assert done.returncode == 0, (
            f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout

    def edit(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert old in text, f"{old!r} is not in {file}"
        (self.folder / file).write_text(text.replace(old, new, 1))

    def metrics(self, stage: str) -> dict:
        return json.loads((self.folder / "metrics" / f"{stage}.json").read_text())

    def repro(self) -> set[str]:
        """`dvc repro`; returns the stages that ran, and not those that came from the cache."""
        lines = self.check("dvc", "repro").splitlines()
        return {line.split("'")[1] for line in lines if line.startswith("Running stage")}

    def training(self, stage: str) -> subprocess.Popen[str]:
        """The stage on its own, in a session of its own, at its first checkpoint until `.llm/go`."""
        work = self.folder / ".llm"
        (work / "go").unlink(missing_ok=True)
        running = subprocess.Popen(
            [*FORCE, stage],
            cwd=self.folder,
            env=self.env | {"PYTHONPATH": hold(work / "hold", work / "go")},
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        kept = f"work/{stage}-*/step-*"
        wait_for(lambda: running.poll() is not None or any(work.glob(kept)))
        assert running.poll() is None, "it ended before its first checkpoint"
        return running

    def version(self) -> int:
        """What stage register has registered."""
        file = self.folder / "data" / "register" / "version.json"
        return int(json.loads(file.read_text())["version"])

    def model(self, name: str) -> str:
        return fingerprint(self.folder / "models" / name)


def cpu_s() -> float:
    """Seconds of CPU of what the tests have started and seen end."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def copy_of_the_tree(folder: Path) -> Project:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    project = Project(folder)
    text = apply_preset((ROOT / "params.yaml").read_text(), "smoke", ROOT / "presets")
    (folder / "params.yaml").write_text(text)
    project.check("git", "init", "-q")
    project.check("git", "config", "user.email", "test@example.org")
    project.check("git", "config", "user.name", "test")
    project.check("git", "add", "-A")
    project.check("git", "commit", "-qm", "start")
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project after one `dvc repro` at smoke size."""
    project = copy_of_the_tree(tmp_path_factory.mktemp("chain"))
    project.check("dvc", "repro")
    project.check("git", "add", "-A")
    project.check("git", "commit", "-qm", "smoke run")
    yield project
    for process in psutil.process_iter(["cwd"]):  # the sender, if it is still delivering
        if process.info["cwd"] == str(project.folder):
            process.wait(PATIENCE_S)


def test_every_stage_wrote_metrics_and_timings(project: Project) -> None:
    for stage in STAGES:
        assert project.metrics(stage), stage
        timings = json.loads((project.folder / "timings" / f"{stage}.json").read_text())
        assert timings["wall_s"] > 0


def test_every_gathered_document_is_accounted_for(project: Project) -> None:
    """Kept, or dropped by a named stage for a named reason: by id, not only by number."""

    def ids(pattern: str, column: str = "id") -> set[str]:
        files = sorted((project.folder / "data").glob(pattern))
        assert files, pattern
        return {
            value
            for file in files
            for value in pq.read_table(file, columns=[column])[column].to_pylist()
        }

    clusters = [pq.read_table(project.folder / "data" / "dedup" / "clusters.parquet")]
    duplicates = {
        row["id"] for table in clusters for row in table.to_pylist() if row["id"] != row["kept_id"]
    }
    gathered = ids("gather/*.parquet")
    failed, rejected = ids("extract/failed.parquet"), ids("filter/rejected/*.parquet")
    kept, heldout = ids("decontaminate/kept/*.parquet"), ids("decontaminate/heldout/*.parquet")
    contaminated = ids("decontaminate/contamination.parquet", "document_id")
    assert len(gathered) == project.metrics("gather")["documents"]
    parts = [failed, rejected, duplicates, contaminated, heldout, kept]
    assert set.union(*parts) == gathered
    assert sum(map(len, parts)) == len(gathered)


def test_held_out_objects_are_not_trained_on(project: Project) -> None:
    def objects(part: str) -> set[str]:
        files = (project.folder / "data" / "decontaminate" / part).glob("*.parquet")
        return {json.loads(m)["top"] for f in files for m in pq.read_table(f)["meta"].to_pylist()}

    assert objects("heldout")
    assert not objects("heldout") & objects("kept")


def test_a_second_repro_does_nothing(project: Project) -> None:
    before = cpu_s()
    output = project.check("dvc", "repro")
    assert "Running stage" not in output
    assert "up to date" in output
    assert cpu_s() - before < 20  # a generous bound: README has the measured figure


def test_only_the_descendants_of_a_change_rerun(project: Project) -> None:
    """One change after the other; what goes back to a former state is in the cache."""
    [rubric] = (project.folder / "evals" / "rubrics").glob("*.md")
    before = rubric.read_text()
    project.edit("params.yaml", "  beta: 0.1", "  beta: 0.2")
    assert "dpo.beta" in project.check("dvc", "params", "diff")
    assert project.repro() == {"dpo", "benchmark", "judge", "report", "register"}
    project.edit("params.yaml", "  beta: 0.2", "  beta: 0.1")
    rubric.write_text(before + "\nBe brief.\n")
    assert project.repro() == {"judge", "report", "register"}
    rubric.write_text(before)
    version = project.version()
    assert project.repro() == {"register"}  # it acts on the world, so it is never replayed
    assert project.version() == version + 1  # the alias follows the pipeline


def test_dvc_shows_the_graph_the_metrics_and_the_plots(project: Project) -> None:
    graph = project.check("dvc", "dag")
    assert all(stage in graph for stage in STAGES)
    assert "metrics/pretrain.json" in project.check("dvc", "metrics", "show")
    page = project.check("dvc", "plots", "show", "--out", ".llm/plots").strip()
    html = (project.folder / ".llm" / "plots" / "index.html").read_text()
    assert page.endswith("index.html")
    assert all(name in html for name in ("corpus funnel", "pretrain loss", "sft loss", "dpo loss"))


@pytest.mark.parametrize("stage", TRAINING)
def test_killed_training_resumes_to_the_same_bytes(project: Project, stage: str) -> None:
    """SIGKILL of the whole process group after the first checkpoint, then `dvc repro`."""
    model = TRAINING[stage]
    undisturbed = project.model(model)
    running = project.training(stage)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert not (project.folder / "models" / model).exists()
    resumed = project.run(*FORCE, stage)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after step" in resumed.stdout + resumed.stderr
    assert project.model(model) == undisturbed
    assert not list((project.folder / ".llm" / "work").glob(f"{stage}-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_is_one_error_and_loses_nothing(project: Project) -> None:
    undisturbed = project.model("base")
    work = project.folder / ".llm" / "work"
    project.check("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(work))
    try:
        full = project.run(*FORCE, "pretrain")
        left = [path.name for path in work.rglob("*") if path.is_file()]
    finally:
        project.check("umount", str(work))
    assert full.returncode != 0
    assert "error: pretrain: the disk is full" in full.stderr
    assert "Traceback" not in full.stderr
    assert left == []
    project.check(*FORCE, "pretrain")
    assert project.model("base") == undisturbed


def test_of_stages_that_were_killed_only_the_timings_differ(project: Project) -> None:
    assert project.repro() == {"report", "register"}


def test_two_processes_by_a_param_train_the_same_model_and_survive_the_death_of_one(
    project: Project,
) -> None:
    """launch.nproc_per_node: 2 starts torchrun with gloo; half the micro-batch, the same batch."""
    alone = project.metrics("pretrain")
    params = project.folder / "params.yaml"
    text = params.read_text().replace("nproc_per_node: 1", "nproc_per_node: 2")
    for size in (8, 16):
        text = text.replace(f"micro_batch_size: {size}\n", f"micro_batch_size: {size // 2}\n")
    params.write_text(text)
    running = project.training("pretrain")
    below = [
        process
        for process in psutil.Process(running.pid).children(recursive=True)
        if "llm.tracking.sender" not in command_of(process)  # it has records to deliver
    ]
    known = [ProcessId.of(process.pid) for process in below]
    [killed] = [process for process in below if environment_of(process).get("RANK") == "1"]
    killed.send_signal(signal.SIGKILL)
    (project.folder / ".llm" / "go").touch()
    output = running.communicate(timeout=PATIENCE_S)[0]
    assert running.returncode != 0
    assert f"error: pretrain: process 1 (pid {killed.pid}) was ended by SIGKILL" in output
    assert re.search(r"Run it again: it goes on after step \d+, its last checkpoint", output)
    assert "Traceback" not in output
    wait_for(lambda: not any(process.is_alive() for process in known))
    again = project.run("dvc", "repro", "--single-item", "pretrain")
    assert again.returncode == 0, again.stderr
    assert "resuming after step" in again.stdout + again.stderr
    together = project.metrics("pretrain")
    assert together["val/loss"] == pytest.approx(alone["val/loss"], abs=2e-3)
    assert together["tokens"] == alone["tokens"]
    project.check("git", "checkout", "params.yaml")
    assert project.repro() == set()  # the run cache has it
    assert project.metrics("pretrain") == alone


def test_the_registered_candidate_answers(project: Project) -> None:
    code = (
        "import mlflow; model = mlflow.pyfunc.load_model('models:/llm@candidate');"
        "print(len(model.predict(['How do I import `array` from `numpy`?'])))"
    )
    assert project.check(sys.executable, "-c", code).strip().endswith("1")
    version = json.loads((project.folder / "data" / "register" / "version.json").read_text())
    assert version["name"] == "llm"


def test_mlflow_has_a_parent_run_and_a_child_per_stage(project: Project) -> None:
    code = """
import json, time, mlflow
for _ in range(300):
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    stages = [r for r in runs if r.data.tags.get("stage")]
    parents = [r for r in runs if not r.data.tags.get("mlflow.parentRunId")]
    if len({r.data.tags["stage"] for r in stages}) == 17 and all(p.info.status != "RUNNING" for p in parents):
        break
    time.sleep(1)
pretrain = next(r for r in stages if r.data.tags["stage"] == "pretrain" and r.info.status == "FINISHED")
data = pretrain.data
print(json.dumps({
    "stages": sorted({r.data.tags["stage"] for r in stages}),
    "status": [p.info.status for p in parents],
    "metrics": sorted(data.metrics), "params": sorted(data.params), "tags": sorted(data.tags),
}))
"""
    seen = json.loads(project.check(sys.executable, "-c", code).strip().splitlines()[-1])
    assert seen["stages"] == sorted(STAGES)
    assert "RUNNING" not in seen["status"]
    assert {"train/loss", "val/loss", "val/bpb"} <= set(seen["metrics"])
    assert "pretrain.batch_tokens" in seen["params"]
    assert any("commit" in tag for tag in seen["tags"])


def test_the_report_stands_alone(project: Project) -> None:
    html = (project.folder / "reports" / "report.html").read_text()
    assert "<svg" in html
    assert 'src="http' not in html
    assert 'href="http' not in html.replace('href="https://arxiv.org', "")


def test_the_command_line_generates_and_chats(project: Project) -> None:
    llm = [sys.executable, "-m", "llm.cli"]
    assert project.check(*llm, "generate", "numpy.array(", "--max-new-tokens", "8").startswith(
        "numpy.array("
    )
    chat = subprocess.run(
        [*llm, "chat", "--max-new-tokens", "8"],
        cwd=project.folder,
        env=project.env,
        input="What is `x`?\n/quit\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    assert chat.stdout.strip()
    wrong = project.run(*llm, "generate", "x", "--model", "nonesuch")
    assert wrong.returncode == 1
    assert "no model folder models/nonesuch" in wrong.stderr
    assert "Traceback" not in wrong.stderr
