"""A small DVC project with a real git repository, run by DVC itself, and a real MLflow registry."""

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

from dvc.repo import Repo
from mlflow import MlflowClient

from llm.config.base import read_yaml
from llm.files import fingerprint
from llm.registry.packages import installed_packages, write_packages
from llm.registry.versions import LOCK_FILE, PACKAGES_FILE, PARAMS_FILE, Registry, Version
from llm.tracking.lineage import git_tags, out_md5s, params_hash, read_lock
from llm.tracking.runs import EXPERIMENT
from tests.conftest import ROOT

STAGE = """
import json, os, sys, time
from pathlib import Path
from ruamel.yaml import YAML
from llm.tied import tie_to_parent

tie_to_parent()
name = sys.argv[1]
params = YAML(typ="safe").load(Path("params.yaml").read_text())

def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)

if name == "gather":
    size = params["gather"]["max_documents"]
    for number in range(3):  # the first file is the same whatever the size
        write(f"data/gather/{number}.txt", f"document {number} of {size if number else 'all'}\\n" * 9)
elif name == "sft":
    text = "".join(path.read_text() for path in sorted(Path("data/gather").iterdir()))
    noise = os.environ.get("NOISE", "")
    write("models/sft/weights.txt", f"{params['sft']['seed']} {len(text)} {text}{noise}")
if os.environ.get("STOP") == name:
    raise SystemExit("stopped")
if os.environ.get("SLEEP") == name:
    write(".llm/sleeps", "")
    time.sleep(600)
if name == "report":
    write("reports/report.html", f"made at {time.time()}")
elif name == "register":
    write("data/register/version.json", "{}")
write(f"metrics/{name}.json", json.dumps({"seed": params["sft"]["seed"]}))
write(f"timings/{name}.json", json.dumps({"wall_s": time.time()}))
with open("runs.log", "a") as log:
    log.write(name + "\\n")
"""

DVC_YAML = """
stages:
  gather:
    cmd: exec python stage.py gather
    deps: [stage.py]
    params: [paths, gather]
    outs: [data/gather]
    metrics: [{metrics/gather.json: {cache: false}}, {timings/gather.json: {cache: false}}]
  sft:
    cmd: exec python stage.py sft
    deps: [stage.py, lib, data/gather]
    params: [paths, sft]
    outs: [models/sft]
    metrics: [{metrics/sft.json: {cache: false}}, {timings/sft.json: {cache: false}}]
  report:
    cmd: exec python stage.py report
    deps: [stage.py, models/sft]
    params: [paths, report]
    outs: [reports]
    metrics: [{metrics/report.json: {cache: false}}, {timings/report.json: {cache: false}}]
  register:
    cmd: exec python stage.py register
    deps: [stage.py, reports]
    params: [paths, register]
    outs: [data/register: {persist: true}]
    metrics: [{metrics/register.json: {cache: false}}, {timings/register.json: {cache: false}}]
"""
IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")
MADE = ("data/gather", "models/sft", "reports")


def build_project(folder: Path) -> None:
    """The project, committed, nothing run."""
    folder.mkdir(parents=True)
    (folder / "stage.py").write_text(STAGE)
    (folder / "lib").mkdir()
    (folder / "lib" / "part.py").write_text("x = 1\n")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    ignored = [".llm/", "__pycache__/", "/data", "/models", "/reports", "runs.log"]
    (folder / ".gitignore").write_text("\n".join(ignored))
    (folder / ".dvcignore").write_text(".llm\n")
    shutil.copy(ROOT / "params.yaml", folder)
    git(folder, "init", "--quiet", "--initial-branch=main")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=folder, check=True)
    (folder / ".dvc" / "config").write_text(
        "[core]\n    analytics = false\n    autostage = true\n[cache]\n    type = hardlink,copy\n"
    )
    commit(folder, "first")


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *args], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def set_params(folder: Path, *, documents: int, seed: int) -> None:
    """Write the two values that the stages' outs depend on."""
    lines = []
    section = ""
    for line in (folder / "params.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.partition(":")[0]
        if section == "gather" and line.startswith("  max_documents:"):
            line = f"  max_documents: {documents}"
        if section == "sft" and line.startswith("  seed:"):
            line = f"  seed: {seed}"
        lines.append(line)
    (folder / "params.yaml").write_text("\n".join(lines) + "\n")


def repro(folder: Path) -> None:
    """`dvc repro` up to the report."""
    with chdir(folder), Repo() as repo:
        repo.reproduce(["report"])


def start_repro(folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """The same as a process, not waited for."""
    return subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--quiet", "report"],
        cwd=folder,
        env={**os.environ, **environment},
    )


def checkout(folder: Path) -> None:
    """`dvc checkout` of what the stages made; git has the metrics."""
    with chdir(folder), Repo() as repo:
        repo.checkout(list(MADE), force=True)


def made(folder: Path) -> dict[str, str]:
    """What the stages' outs hold."""
    return {path: fingerprint(folder / path) for path in MADE}


def register(
    folder: Path, registry: Registry, name: str = "llm", *, older: bool = False
) -> Version:
    """A version of what lies in the folder, as stage register makes it; an `older` one has only tags."""
    stages = read_lock(folder / "dvc.lock")
    outs = {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    params = folder / "params.yaml"
    client = registry.client
    run = client.create_run(experiment(registry, folder), run_name="register")
    with chdir(folder):
        commit_tags = git_tags(written={*outs, "dvc.lock", "params.yaml"})
    tags = {
        "model": "sft",
        **commit_tags,
        "params_sha256": params_hash(read_yaml(params)),
        **{f"out/{path}": md5 for path, md5 in outs.items()},
    }
    if not older:
        client.log_artifact(run.info.run_id, str(folder / "dvc.lock"), str(Path(LOCK_FILE).parent))
        client.log_artifact(run.info.run_id, str(params), str(Path(PARAMS_FILE).parent))
        packages = folder / ".llm" / Path(PACKAGES_FILE).name
        write_packages(packages, installed_packages())
        client.log_artifact(run.info.run_id, str(packages), str(Path(PACKAGES_FILE).parent))
        for metrics in (folder / "metrics").glob("*.json"):
            client.log_artifact(run.info.run_id, str(metrics), "metrics")
    if name not in registry.names():
        client.create_registered_model(name)
    version = client.create_model_version(
        name, run.info.artifact_uri or "", run.info.run_id, tags=tags
    )
    client.set_terminated(run.info.run_id)
    git(folder, "update-ref", f"refs/llm/{name}/{version.version}", "HEAD")
    return registry.find(str(version.version), name)


def experiment(registry: Registry, folder: Path) -> str:
    """The id of the experiment of the project in the folder."""
    client: MlflowClient = registry.client
    found = client.get_experiment_by_name(EXPERIMENT)
    place = (folder / ".llm" / "mlartifacts").as_uri()
    return found.experiment_id if found else client.create_experiment(EXPERIMENT, place)
