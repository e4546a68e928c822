"""A small DVC project that has some of the chain's stages, in a git repository of its own."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.flows.up_process import running_up
from tests.waiting import PATIENCE_S

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

STAGE = """
import os, signal, sys, time
from pathlib import Path
from llm.config.base import read_yaml
from llm.files import write_json, write_text
from llm.tied import tie_to_parent
from llm.tracking.spool import recording

FAIL, WAIT, DIE_ONCE, DEAF = 13, 50, 66, 99
checkout = Path.cwd().parents[2]  # of the run whose worktree this is

tie_to_parent()
name = sys.argv[1]
seed = read_yaml(Path("params.yaml"))["pretrain"]["seed"] if name == "pretrain" else 0
with recording(name, Path(".llm"), {name: {"seed": seed}}, []) as recorder:
    print(f"this is {name}")
    if seed == FAIL:
        raise SystemExit("no such luck")
    if seed == DEAF:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    while seed == WAIT and not (checkout / "go").exists():
        time.sleep(0.1)
    if seed == DIE_ONCE and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), 9)
    if name in ("pretrain", "instructions"):  # each waits until the other runs as well
        Path(f"{name}.begun").touch()
        deadline = time.monotonic() + 300
        both = ("pretrain", "instructions")
        while not all(Path(f"{each}.begun").exists() or Path("data", each).exists() for each in both):
            assert time.monotonic() < deadline, "the other stage does not run beside this one"
            time.sleep(0.1)
    words = checkout / "words"  # in no dep, as the web is in none
    found = words.read_text() if name == "gather" and words.exists() else ""
    write_text(Path("data") / name, f"{name} {seed} {found}")
    write_json(Path("metrics") / f"{name}.json", {"seed": seed})
    recorder.log(0, {"seed": seed})
"""

DVC_YAML = """
stages:
  gather:
    cmd: exec python stage.py gather
    deps: [stage.py]
    outs: [data/gather]
    metrics: [{metrics/gather.json: {cache: false}}]
  pretrain:
    cmd: exec python stage.py pretrain
    deps: [data/gather]
    params: [pretrain]
    outs: [data/pretrain]
    metrics: [{metrics/pretrain.json: {cache: false}}]
  instructions:
    cmd: exec python stage.py instructions
    deps: [data/gather]
    outs: [data/instructions]
    metrics: [{metrics/instructions.json: {cache: false}}]
  report:
    cmd: exec python stage.py report
    deps: [data/pretrain, data/instructions]
    outs: [data/report]
    metrics: [{metrics/report.json: {cache: false}}]
"""


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, committed."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / ".gitignore").write_text(".llm/\n__pycache__/\n/data\n*.begun\n/died\n/go\n/words\n")
    shutil.copy(ROOT / "params.yaml", folder)
    git(folder, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=folder, check=True)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n    autostage = true\n")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A copy of the project."""
    return Path(shutil.copytree(template, tmp_path / "project"))


def git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page of a headless browser."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (`make system` installs it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * PATIENCE_S
        )
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.set_default_timeout(1000 * PATIENCE_S)
        expect.set_options(timeout=1000 * PATIENCE_S)
        yield page
        browser.close()


@pytest.fixture(scope="session")
def served(
    template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, SyncPrefectClient]]:
    """The project with its servers running, and a client; at the end nothing is left."""
    folder = tmp_path_factory.mktemp("served") / "project"
    git(template, "clone", "--quiet", str(template), str(folder))
    with (
        running_up(folder, {}) as up,
        temporary_settings({PREFECT_API_URL: f"{up.state['prefect']}/api"}),
        get_client(sync_client=True) as client,
    ):
        yield folder, client
