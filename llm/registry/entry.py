"""A version in MLflow's registry: the model, what says how it was made, and its alias."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version as installed
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, ColSpec, DataType, ParamSchema, ParamSpec, Schema

from llm.config.base import read_yaml
from llm.config.registry import RegisterConfig
from llm.errors import DataError, TrackingError
from llm.files import read_json, read_text
from llm.git import keep_commit
from llm.model.folder import read_config
from llm.process import PARAMS, Context
from llm.registry.cache import path_md5
from llm.registry.packages import installed_packages, write_packages
from llm.registry.reference import Reference, refer, write_reference
from llm.registry.versions import LOCK_FILE, PACKAGES_FILE, PARAMS_FILE
from llm.tracking.lineage import LOCK
from llm.tracking.runs import connect, ensure_run, valid_name
from llm.tracking.spool import flatten, flatten_params, stage_file, tracking_uri

CODE = Path(__file__).parents[1]  # travels with the version, so that it loads without a checkout
REQUIREMENTS = ("torch", "tokenizers", "safetensors", "jinja2", "numpy", "pydantic", "ruamel.yaml")
EXAMPLE = ["How do I import Path?"]
MAX_NEW_TOKENS = 128
REFERENCE_FILE = "weights.json"
DESCRIPTION_CHARACTERS = 5000  # of MLflow's column


def register_version(
    ctx: Context, register: RegisterConfig, chosen: str, tags: dict[str, str]
) -> dict[str, Any]:
    """A new version with its tags, then the alias; TrackingError where MLflow makes none."""
    uri = tracking_uri(stage_file(ctx.name, Path(ctx.paths.work)).parent)
    try:
        return _register(ctx, register, chosen, tags, uri)
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {uri} did not register the version ({error}); start it with `make up`, "
            "or unset MLFLOW_TRACKING_URI to use the project's own file"
        ) from error


def model_reference(folder: Path, md5: str | None) -> Reference:
    """What is registered instead of the weights; DataError unless DVC keeps exactly this folder."""
    if md5 is None:
        raise DataError(
            f"register.weights=reference: {LOCK} has no {folder}, so DVC keeps no weights to refer "
            "to; run `dvc repro` rather than the stage alone, or set register.weights to upload"
        )
    if path_md5(folder) != md5:
        raise DataError(
            f"register.weights=reference: {folder} is not what {LOCK} says ({md5}); run `dvc repro`"
        )
    reference = refer(str(folder), md5)
    if missing := [file.path for file in reference.files if file.size < 0]:
        raise DataError(
            f"register.weights=reference: DVC's cache {reference.cache or '(none)'} lacks "
            f"{', '.join(missing)} of {folder}; `dvc commit` puts them there"
        )
    return reference


def describe(card: str) -> str:
    """The model card as the version's description, in Markdown: whole sections, as many as fit."""
    text = re.sub(r"\A---\n.*?\n---\n", "", card, flags=re.DOTALL).strip()
    note = "\n\nThe whole card, the data card and the report are among the run's artifacts, in `report`."
    sections = re.split(r"\n(?=## )", text)
    while len("\n".join(sections)) + len(note) > DESCRIPTION_CHARACTERS and len(sections) > 1:
        sections.pop()
    return "\n".join(sections)[: DESCRIPTION_CHARACTERS - len(note)].rstrip() + note


def _register(
    ctx: Context, register: RegisterConfig, chosen: str, tags: dict[str, str], uri: str
) -> dict[str, Any]:
    """A new version with its tags, then the alias."""
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    work = Path(ctx.paths.work).absolute()
    client, experiment_id = connect(uri, work)
    spool = stage_file(ctx.name, work)
    run_id = ensure_run(client, experiment_id, spool) if spool.exists() else None
    with (
        mlflow.start_run(run_id, experiment_id, run_name=ctx.name) as active,
        _weights(ctx.paths.model(chosen), register, tags) as weights,
    ):
        info = _log_model(ctx.paths.model(chosen), weights)
        _keep_record(ctx, chosen, info.model_id)
        run_id = active.info.run_id
    registered = mlflow.register_model(info.model_uri, register.name, tags=tags)
    number = str(registered.version)
    card = read_text(Path(ctx.paths.reports) / "model_card.md")
    client.update_model_version(register.name, number, describe(card))
    version_uri = f"models:/{register.name}/{number}"
    _check(version_uri)
    keep_commit(Path(), f"{register.name}/{number}")
    client.set_registered_model_alias(register.name, register.alias, number)
    return {
        "name": register.name,
        "version": number,
        "alias": register.alias,
        "run_id": run_id,
        "model": chosen,
        "uri": version_uri,
        "tags": tags,
    }


@contextmanager
def _weights(folder: Path, register: RegisterConfig, tags: dict[str, str]) -> Iterator[Path]:
    """What MLflow is to store as the model: the folder, or a file that refers to it."""
    if register.weights == "upload":
        yield folder
        return
    reference = model_reference(folder, tags.get(f"out/{folder}"))
    with TemporaryDirectory() as scratch:
        write_reference(Path(scratch) / REFERENCE_FILE, reference)
        yield Path(scratch) / REFERENCE_FILE


def _keep_record(ctx: Context, chosen: str, model_id: str | None) -> None:
    """Keep with the version what says how it was made and how it did (llm/registry/versions.py)."""
    for file, kept in ((LOCK, LOCK_FILE), (PARAMS, PARAMS_FILE)):
        if file.exists():
            mlflow.log_artifact(str(file), str(Path(kept).parent))
    write_packages(ctx.work / Path(PACKAGES_FILE).name, installed_packages())
    mlflow.log_artifact(str(ctx.work / Path(PACKAGES_FILE).name), str(Path(PACKAGES_FILE).parent))
    for path in sorted(Path(ctx.paths.metrics).glob("*.json")):
        if path.stem != ctx.name:
            mlflow.log_artifact(str(path), "metrics")
            numbers = flatten(read_json(path), f"{path.stem}/")
            figures = {valid_name(key): value for key, value in numbers.items()}
            mlflow.log_metrics(figures, model_id=model_id)
    mlflow.log_artifact(str(ctx.paths.stage("benchmark") / f"{chosen}.json"), "benchmark")
    mlflow.log_artifacts(ctx.paths.reports, "report")


def _log_model(folder: Path, weights: Path) -> Any:
    """Store the weights and the code that loads them."""
    block_size = read_config(folder, reward=False)[1].block_size
    params = ParamSchema(
        [
            ParamSpec("max_new_tokens", DataType.long, min(MAX_NEW_TOKENS, block_size // 2)),
            ParamSpec("temperature", DataType.double, 0.0),
        ]
    )
    any_row = Schema([ColSpec(AnyType())])  # a prompt, or a list of messages
    packages = (*REQUIREMENTS, *(() if weights.is_dir() else ("dvc",)))
    return mlflow.pyfunc.log_model(
        name="model",
        python_model=str(CODE / "serve" / "pyfunc_model.py"),
        artifacts={"model": str(weights)},
        code_paths=[str(CODE)],
        signature=ModelSignature(any_row, Schema([ColSpec(DataType.string)]), params),
        input_example=EXAMPLE,
        pip_requirements=[f"{package}=={installed(package)}" for package in packages],
        params=flatten_params(read_yaml(PARAMS)),
    )


def _check(version_uri: str) -> None:
    """The stored version loads and answers."""
    answers = mlflow.pyfunc.load_model(version_uri).predict(EXAMPLE)
    if len(answers) != len(EXAMPLE) or not all(isinstance(answer, str) for answer in answers):
        raise DataError(f"{version_uri} loads but answers {answers!r}; it gets no alias")
