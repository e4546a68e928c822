"""A registry in a file with versions of a tiny model, in a project's folder."""

import pickle
import shutil
from pathlib import Path

import pytest

from llm.config.model import ModelConfig
from llm.model.folder import save_model
from llm.model.transformer import LanguageModel, initialise
from llm.registry.versions import CHAMPION, Registry, Version
from llm.tokenizer.load import Tokenizer
from tests.conftest import ROOT

MLMODEL = """
flavors:
  python_function:
    artifacts: {model: {path: artifacts/dpo}}
    code: code
    loader_module: mlflow.pyfunc.model
    python_model: python_model.pkl
"""


class Trap:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


class Versions:
    """Registers versions whose pickle and code leave a file `sprung` when they are used."""

    def __init__(
        self,
        project: Path,
        config: ModelConfig,
        tokenizer: Tokenizer,
        registry: Registry,
        place: str | None = None,
    ) -> None:
        """Their files lie in `place`, or where the server at the registry keeps artifacts."""
        self.project, self.config, self.tokenizer = project, config, tokenizer
        self.registry = registry
        self.experiment = registry.client.create_experiment("versions", place)
        registry.client.create_registered_model("llm")

    @property
    def sprung(self) -> Path:
        return self.project / "sprung"

    def add(self, seed: int) -> Version:
        """One more version; the model is the seed's."""
        model = LanguageModel(self.config, self.tokenizer.vocab_size)
        initialise(model, seed)
        for parameter in model.parameters():  # larger weights, so that the answers differ
            parameter.data *= 3
        folder = self.project / f"stored-{seed}"
        save_model(folder / "artifacts" / "dpo", model, self.tokenizer)
        (folder / "MLmodel").write_text(MLMODEL)
        (folder / "python_model.pkl").write_bytes(pickle.dumps(Trap(self.sprung)))
        (folder / "code" / "llm").mkdir(parents=True)
        (folder / "code" / "llm" / "__init__.py").write_text(f"open({str(self.sprung)!r}, 'w')\n")
        client = self.registry.client
        run = client.create_run(self.experiment)
        client.log_artifacts(run.info.run_id, str(folder), "model")
        source = f"{run.info.artifact_uri}/model"
        found = client.create_model_version("llm", source, run.info.run_id)
        return self.registry.find(str(found.version), "llm")

    def crown(self, version: Version) -> None:
        """Make it the champion."""
        self.registry.set_alias(version, CHAMPION)


@pytest.fixture(scope="module")
def versions(
    tiny: ModelConfig, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Versions:
    """Version 1 is the champion, version 2 is not."""
    project = tmp_path_factory.mktemp("served")
    (project / ".llm").mkdir()
    shutil.copy(ROOT / "params.yaml", project)
    registry = Registry(f"sqlite:///{project / '.llm' / 'mlflow.db'}")
    place = (project / ".llm" / "mlartifacts").as_uri()
    versions = Versions(project, tiny, tokenizer, registry, place)
    versions.crown(versions.add(1))
    versions.add(2)
    return versions
