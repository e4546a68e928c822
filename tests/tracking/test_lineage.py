"""A tree is dirty by what a person changed, never by what the pipeline writes."""

import subprocess
from pathlib import Path

import pytest

from llm.tracking.lineage import git_tags


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text("x = 1\n")
    for command in (["init", "-q"], ["add", "."], [*IDENTITY, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], check=True)
    return tmp_path


IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@localhost"]


def test_the_commit_is_named_and_the_pipelines_own_files_leave_it_clean(repo: Path) -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    (repo / "metrics").mkdir()
    (repo / "metrics" / "dedup.json").write_text("{}")
    (repo / "dvc.lock").write_text("")
    expected = {"git_commit": head.stdout.strip(), "git_dirty": "false"}
    assert git_tags({"metrics", "dvc.lock"}) == expected
    assert git_tags({"metrics/dedup.json", "dvc.lock"}) == expected


@pytest.mark.parametrize("name", ["code.py", "new.py"])
def test_a_changed_or_new_file_makes_the_tree_dirty(repo: Path, name: str) -> None:
    (repo / name).write_text("x = 2\n")
    assert git_tags({"dvc.lock"})["git_dirty"] == "true"


def test_outside_a_repository_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert git_tags(set()) == {"git_commit": "none", "git_dirty": "false"}
