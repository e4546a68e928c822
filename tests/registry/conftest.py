"""A registry in a file, with three bare versions of `llm`; and a project with three real ones."""

import shutil
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from llm.registry.versions import Registry


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an MLflow that has three versions of `llm`; making one takes seconds."""
    file = tmp_path_factory.mktemp("registry") / "mlflow.db"
    registry = Registry(f"sqlite:///{file}")
    experiment = registry.client.create_experiment("llm", (file.parent / "artifacts").as_uri())
    registry.client.create_registered_model("llm")
    for _ in range(3):
        run = registry.client.create_run(experiment)
        registry.client.create_model_version("llm", run.info.artifact_uri or "", run.info.run_id)
    return file


@pytest.fixture
def registry(empty_registry: Path, tmp_path: Path) -> Registry:
    """A copy of it."""
    return Registry(f"sqlite:///{shutil.copy(empty_registry, tmp_path / 'mlflow.db')}")


@pytest.fixture
def promotable(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of the project of tests/registry/promotable.py, which is the working directory."""
    from tests.registry.promotable import built_project, copy_of  # imports torch

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = copy_of(built_project(tmp_path_factory.getbasetemp()), tmp_path / "project")
    _artifact_repos_cache.clear()  # MLflow remembers places by run, and copies have the same runs
    monkeypatch.chdir(copy)
    return copy
