"""A registry in a file, with three bare versions of `llm`; a project with three real ones; a small DVC project."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from llm.registry.versions import Registry
from tests.conftest import ROOT
from tests.registry.project import build_project


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
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the measuring process is of this checkout
    _artifact_repos_cache.clear()  # MLflow remembers places by run, and copies have the same runs
    monkeypatch.chdir(copy)
    return copy


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DVC project, nothing run, and MLflow's empty tables."""
    folder = tmp_path_factory.mktemp("template") / "project"
    build_project(folder)
    (folder / ".llm").mkdir()
    Registry(f"sqlite:///{folder / '.llm' / 'mlflow.db'}").names()
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which the test runs."""
    folder = Path(shutil.copytree(template, tmp_path / "project", symlinks=True))
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def registered(project: Path) -> Registry:
    """The project's own registry, with no version yet."""
    return Registry(f"sqlite:///{project / '.llm' / 'mlflow.db'}")
