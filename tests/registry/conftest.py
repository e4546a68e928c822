"""A registry in a file, with three bare versions of `llm`."""

import shutil
from pathlib import Path

import pytest

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
