"""What the cache has is checked out without running anything, and nothing else is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.conftest import git

DVC_YAML = """
stages:
  gather:
    cmd: touch ran-gather && cp words data-gather && cp words metric
    deps: [words]
    outs: [data-gather]
    metrics: [{metric: {cache: false}}]
  register:
    cmd: touch ran-register && mkdir -p data && cp data-gather data/register
    deps: [data-gather]
    outs: [{data/register: {persist: true}}]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that `dvc repro` has made, its dvc.lock and metric not committed."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "words").write_text("some words\n")
    git(folder, "init", "--quiet")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], cwd=folder, check=True)
    (folder / ".gitignore").write_text("/ran-*\n/data-gather\n")
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=folder, check=True)
    return folder


@pytest.fixture
def tree(made: Path, tmp_path: Path) -> Path:
    """A fresh checkout that shares the cache."""
    folder = tmp_path / "tree"
    git(made, "clone", "--quiet", str(made), str(folder))
    cache = ["cache", "dir", "--local", str(made / ".dvc" / "cache")]
    subprocess.run([sys.executable, "-m", "dvc", *cache], cwd=folder, check=True)
    return folder


def test_the_run_cache_gives_back_what_was_made_from_the_same(tree: Path) -> None:
    assert _restore(tree) == {
        "gather": "is in the cache: checked out"
    }  # register acts on the world
    assert (tree / "data-gather").read_text() == (tree / "metric").read_text() == "some words\n"
    assert _restore(tree) == {"gather": "didn't change"}
    assert not list(tree.glob("ran-*"))


def test_an_earlier_lock_also_gives_back_what_no_run_cache_keeps(made: Path, tree: Path) -> None:
    both = dict.fromkeys(("gather", "register"), "is in the cache: checked out")
    assert _restore(tree, made) == both
    assert (tree / "data" / "register").read_text() == "some words\n"
    status = [sys.executable, "-m", "dvc", "status", "--json"]
    assert subprocess.run(status, cwd=tree, capture_output=True, text=True).stdout.strip() == "{}"
    for gone in ("data-gather", "metric"):
        (tree / gone).unlink()
    (tree / "metric").write_text("changed by hand")
    assert _restore(tree) == {"gather": "is in the cache: checked out", "register": "didn't change"}
    assert (tree / "metric").read_text() == "some words\n"
    assert not list(tree.glob("ran-*"))


def test_what_is_made_from_something_else_is_not_taken(made: Path, tree: Path) -> None:
    (tree / "words").write_text("other words\n")
    assert _restore(tree, made) == {}
    assert not (tree / "data" / "register").exists()
    shutil.rmtree(tree)


def test_what_the_cache_lost_is_not_taken(made: Path, tree: Path, tmp_path: Path) -> None:
    cache = ["cache", "dir", "--local", str(tmp_path / "empty")]
    subprocess.run([sys.executable, "-m", "dvc", *cache], cwd=tree, check=True)
    assert _restore(tree, made) == {}


def _restore(folder: Path, *earlier: Path) -> dict[str, str]:
    options = [f"--earlier={each}" for each in earlier]
    done = subprocess.run(
        [sys.executable, "-m", "flows.restore", *options, "gather", "register"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return {row["stage"]: row["how"] for row in rows}
