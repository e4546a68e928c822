"""A version is made again and proven by its bytes; what cannot be proven is said, with what is missing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm.errors import ConfigError, LLMError
from llm.registry.reproduce import PREPARED, package_reasons, reproduction
from llm.registry.versions import Registry, Version
from llm.worktree import checkouts, remove_worktree
from tests.conftest import ROOT
from tests.registry.project import commit, git, register, repro, set_params
from tests.waiting import wait_for

MAY_DIFFER = {
    "reports",
    *(f"timings/{stage}.json" for stage in ("gather", "sft", "report")),
}


@pytest.fixture
def version(project: Path, registered: Registry) -> Version:
    """Of a committed project, with params of its own; the checkout has moved on since."""
    set_params(project, documents=2, seed=7)
    commit(project, "params")
    repro(project)
    commit(project, "results")
    version = register(project, registered)
    set_params(project, documents=1, seed=1)
    return version


def runs(folder: Path) -> list[str]:
    """The stages that were really run there, in order."""
    log = folder / "runs.log"
    return log.read_text().split() if log.exists() else []


def test_from_the_cache_nothing_runs_and_every_byte_is_the_same(
    project: Path, registered: Registry, version: Version
) -> None:
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        made.run(print)
        rows = made.compare()
        assert all(row.same for row in rows)
        assert {row.path for row in rows} >= {"data/gather", "models/sft", "metrics/report.json"}
        assert runs(made.folder) == []
        folder = made.folder
    assert git(
        project, "status", "--porcelain", "--", "params.yaml"
    )  # nobody's checkout is touched
    remove_worktree(project, folder)
    assert [each.folder for each in checkouts(project)] == [project]


def test_from_scratch_every_stage_but_register_runs_and_only_times_differ(
    project: Path, registered: Registry, version: Version
) -> None:
    with reproduction(registered, version, project, scratch=True, anyway=False) as made:
        made.run(print)
        assert runs(made.folder) == ["gather", "sft", "report"]
        rows = made.compare()
    assert {row.path for row in rows if not row.same} == MAY_DIFFER
    assert all(row.may_differ for row in rows if not row.same)


def test_what_differs_is_found_with_the_stage_that_it_began_in(
    project: Path, registered: Registry, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOISE", "another machine")
    with reproduction(registered, version, project, scratch=True, anyway=False) as made:
        made.run(print)
        rows = made.compare()
        assert made.first_to_differ(rows) == ["sft"]
    differ = {row.path for row in rows if not row.same and not row.may_differ}
    assert differ == {"models/sft"}


def test_a_damaged_object_in_the_cache_is_not_taken_for_the_version(
    project: Path, registered: Registry, version: Version
) -> None:
    md5 = version.tags["out/metrics/sft.json"]
    place = project / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    place.chmod(0o644)
    place.write_text("{}")
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        made.run(print)
        rows = made.compare()
    assert {row.path for row in rows if not row.same} <= {"metrics/sft.json", *MAY_DIFFER}


def test_interrupted_it_continues_where_it_was(
    project: Path, registered: Registry, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOP", "sft")
    with (
        reproduction(registered, version, project, scratch=True, anyway=False) as made,
        pytest.raises(LLMError, match="the same `llm reproduce` continues"),
    ):
        made.run(print)
    monkeypatch.delenv("STOP")
    with reproduction(registered, version, project, scratch=True, anyway=False) as made:
        made.run(print)
        assert runs(made.folder) == ["gather", "sft", "report"]
        assert all(row.same or row.may_differ for row in made.compare())


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_killed_with_its_stage_it_leaves_no_process_and_continues(
    project: Path, registered: Registry, version: Version, shell: str
) -> None:
    command = [sys.executable, "-m", "llm.cli", "reproduce", version.uri, "--scratch"]
    environment = {**os.environ, "SLEEP": "sft", "PYTHONPATH": str(ROOT), "SHELL": shell}
    with subprocess.Popen(command, cwd=project, env=environment) as process:
        folder = project / ".llm" / "worktrees" / "reproduce-llm-1-scratch"
        wait_for(lambda: (folder / ".llm" / "sleeps").exists())
        with pytest.raises(ConfigError, match="another process is at it already"):
            reproduction(registered, version, project, scratch=True, anyway=False).__enter__()
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not _processes_in(folder))
    assert runs(folder) == ["gather"]
    del environment["SLEEP"]
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=True
    )
    assert "models:/llm/1 is reproduced" in done.stdout
    assert not folder.exists()


def test_half_a_worktree_is_made_anew(
    project: Path, registered: Registry, version: Version
) -> None:
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        (made.folder / PREPARED).unlink()
        (made.folder / "dvc.yaml").unlink()
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        made.run(print)
        assert all(row.same for row in made.compare())


def test_a_version_of_an_earlier_register_is_reproduced_by_its_tags(
    project: Path, registered: Registry, version: Version
) -> None:
    git(project, "checkout", "--quiet", "--force", "main")
    older = register(project, registered, older=True)
    with reproduction(registered, older, project, scratch=False, anyway=False) as made:
        made.run(print)
        assert all(row.same for row in made.compare())


def test_what_no_commit_has_cannot_be_proven_and_is_named(
    project: Path, registered: Registry
) -> None:
    (project / "lib" / "part.py").write_text("x = 2\n")
    repro(project)
    version = register(project, registered)
    assert version.tags["git_dirty"] == "true"
    with pytest.raises(ConfigError, match=r"cannot be proven.*\(lib\).*--anyway"):
        reproduction(registered, version, project, scratch=False, anyway=False).__enter__()
    with reproduction(registered, version, project, scratch=False, anyway=True) as made:
        made.run(print)
        assert made.compare()


def test_a_dirty_tree_is_proven_when_no_stage_read_what_was_changed(
    project: Path, registered: Registry
) -> None:
    (project / "notes.txt").write_text("not read by any stage")
    repro(project)
    version = register(project, registered)
    assert version.tags["git_dirty"] == "true"
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        made.run(print)
        assert all(row.same for row in made.compare())


def test_a_commit_that_is_not_here_is_one_error(
    project: Path, registered: Registry, version: Version
) -> None:
    registered.set_tags(version, {"git_commit": "1" * 40})
    elsewhere = registered.find(version.number, "llm")
    with pytest.raises(ConfigError, match=r"not in this repository; `git fetch --all`"):
        reproduction(registered, elsewhere, project, scratch=False, anyway=False).__enter__()


def test_other_packages_are_named_where_they_are_the_corpus(
    project: Path, registered: Registry, version: Version
) -> None:
    with reproduction(registered, version, project, scratch=False, anyway=False) as made:
        assert package_reasons(made.record) == []
        packages = {**made.record.packages, "numpy": "0.1", "typer": "0.1", "python": "3.0"}
        object.__setattr__(made.record, "packages", packages)
        said = package_reasons(made.record)
    assert [line.split()[0] for line in said] == ["python", "numpy"]
    assert "numpy was 0.1, is " in said[1]


def _processes_in(folder: Path) -> list[int]:
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(folder):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
