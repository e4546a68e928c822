"""A run works in a checkout of its own and leaves a branch, never a dirty checkout."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from flows.worktree import Worktree, git, worktree
from llm.errors import ConfigError

RUN_ID = "0123456789abcdef"


def test_a_run_leaves_its_branch_and_nothing_else(project: Path) -> None:
    with worktree(project, "calm-hare", RUN_ID) as tree:
        assert tree.folder.parent == project / ".llm" / "worktrees"
        with Repo(str(tree.folder)) as repo:
            assert repo.cache.local_cache_dir == str(project / ".dvc" / "cache")
        assert not tree.commit("nothing changed")
        (tree.folder / "params.yaml").write_text("changed")
        assert tree.commit("changed")
    assert not tree.folder.exists()
    assert git(project, "show", "run/calm-hare:params.yaml") == "changed"
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "log", "--format=%s") == "first"


def test_a_name_that_git_refuses_is_made_fit(project: Path) -> None:
    with worktree(project, "smoke test/1 ..", RUN_ID) as tree:
        assert tree.branch == "run/smoke-test-1"
        assert tree.folder.parent == project / ".llm" / "worktrees"


def test_a_failed_run_keeps_its_worktree_and_a_retry_continues_in_it(project: Path) -> None:
    with (
        pytest.raises(ConfigError, match="failed"),
        worktree(project, "calm-hare", RUN_ID) as tree,
    ):
        _half_a_run(tree)
    with worktree(project, "calm-hare", RUN_ID) as again:
        assert again == tree
        assert (again.folder / "work").read_text() == "half done"


def _half_a_run(tree: Worktree) -> None:
    (tree.folder / "work").write_text("half done")
    git(tree.folder, "no-such-command")


def test_runs_of_the_same_name_have_branches_of_their_own(project: Path) -> None:
    with worktree(project, "calm-hare", RUN_ID) as first:
        pass
    with worktree(project, "calm-hare", "fedcba9876543210") as second:
        assert (first.branch, second.branch) == ("run/calm-hare", "run/calm-hare-fedcba98")


def test_without_a_commit_there_is_nothing_to_build(project: Path) -> None:
    shutil.rmtree(project / ".git")
    with (
        pytest.raises(ConfigError, match=r"what is committed.*git commit"),
        worktree(project, "calm-hare", RUN_ID),
    ):
        pass
