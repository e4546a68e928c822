"""With LLM_DVC_REMOTE a run's outs are on S3, from where another checkout has them; credentials stay out."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.command import CommandError
from flows.remote import configure_remote, push_results
from flows.worktree import git
from tests.flows.storage import s3


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, str]]:
    with s3("factory") as environment:
        yield environment


@pytest.fixture
def remote(storage: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**storage, "LLM_DVC_REMOTE": "s3://factory/dvc"}.items():
        monkeypatch.setenv(name, value)


def test_another_checkout_pulls_what_a_run_has_pushed(
    project: Path, remote: None, storage: dict[str, str], tmp_path: Path
) -> None:
    _dvc(project, "repro", "--quiet", "gather")
    git(project, "add", "--all")
    git(project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "made")
    lines: list[str] = []
    assert push_results(project, lines.append)
    assert any("pushed" in line for line in lines), lines
    other = tmp_path / "other"
    git(project, "clone", "--quiet", str(project), str(other))
    configure_remote(other)
    _dvc(other, "pull", "--quiet", "gather")
    assert (other / "data" / "gather").read_text() == (project / "data" / "gather").read_text()
    for folder in (project, other):
        local = (folder / ".dvc" / "config.local").read_text()
        assert "s3://factory/dvc" in local
        assert storage["AWS_SECRET_ACCESS_KEY"] not in local
        assert git(folder, "status", "--porcelain") == ""


def test_without_a_remote_nothing_is_pushed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_DVC_REMOTE", raising=False)
    configure_remote(project)
    assert not push_results(project, print)
    assert not (project / ".dvc" / "config.local").exists()


def test_a_remote_that_refuses_is_an_error_with_dvc_s_reason(
    project: Path, remote: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_DVC_REMOTE", "s3://no-such-bucket/dvc")
    _dvc(project, "repro", "--quiet", "gather")
    with pytest.raises(CommandError, match="bucket does not exist"):
        push_results(project, lambda line: None)


def _dvc(folder: Path, *args: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *args], cwd=folder, check=True)
