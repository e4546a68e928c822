"""An earlier run with the same params is found on its branch, the newest first."""

from pathlib import Path

from flows.earlier import earlier_results
from flows.worktree import Worktree, worktree
from tests.flows.conftest import git


def test_the_newest_run_with_the_same_params_is_found(project: Path) -> None:
    _run(project, "first-hare", "pretrain: {seed: 1}", "lock one")
    _run(project, "other-hare", "pretrain: {seed: 2}", "lock two")
    _run(project, "empty-hare", "pretrain: {seed: 1}", None)
    with worktree(project, "new-hare", "3" * 16) as tree:
        _set_params(tree, "pretrain: {seed: 1}")
        (found,) = earlier_results(project, tree)
        assert found == tree.folder / ".llm" / "earlier"
        assert (found / "dvc.lock").read_text() == "lock one"
        assert (found / "metrics" / "pretrain.json").read_text() == "lock one"
        assert git(tree.folder, "status", "--porcelain") == "M params.yaml"
        (project / "dvc.lock").write_text("the checkout's")
        assert earlier_results(project, tree) == [found, project]


def test_without_a_run_alike_there_is_nothing(project: Path) -> None:
    with worktree(project, "new-hare", "3" * 16) as tree:
        assert earlier_results(project, tree) == []


def _run(project: Path, name: str, seed: str, lock: str | None) -> None:
    with worktree(project, name, name) as tree:
        _set_params(tree, seed)
        if lock:
            (tree.folder / "dvc.lock").write_text(lock)
            (tree.folder / "metrics").mkdir()
            (tree.folder / "metrics" / "pretrain.json").write_text(lock)
        tree.commit(f"results of {name}")


def _set_params(tree: Worktree, seed: str) -> None:
    path = tree.folder / "params.yaml"
    path.write_text(path.read_text() + f"# {seed}\n")
