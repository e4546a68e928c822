"""Register chooses by a score that exists, and its version answers through MLflow."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from llm.config.paths import Paths
from llm.config.registry import RegisterConfig
from llm.config.sampling import SamplingConfig
from llm.config.tokenizer import TokenizerConfig
from llm.errors import DataError, TrackingError
from llm.files import fingerprint, read_json, write_json, write_text
from llm.inference.engine import Engine
from llm.model.folder import save_model
from llm.model.transformer import LanguageModel
from llm.process import Context
from llm.registry import reference
from llm.registry.entry import EXAMPLE, describe
from llm.registry.versions import LOCK_FILE, PARAMS_FILE, Registry, tracking_uri_of
from llm.registry.weights import model_folder
from llm.serve.pyfunc_model import conversations_of
from llm.stages.register import read_scores, run, version_tags
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer
from tests.shapes import LSTM, shape

SHAPE = shape(block_size=32, n_layer=1, n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
RECURRENT = SHAPE.model_copy(update=LSTM)
REGISTER = RegisterConfig(
    name="test-llm", alias="candidate", select_by="exact_match", weights="upload"
)
CARD = "---\nlanguage: en\n---\n\n# A model: model card\n\nIt answers.\n\n## Results\n\nGood.\n"
SCORES = {"sft": {"exact_match": 0.25, "bpb": 2.0}, "dpo": {"exact_match": 0.5, "bpb": 2.5}}


@pytest.fixture
def project(tmp_path: Path, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Paths]:
    """Two random models, their scores, and MLflow in the project's own file.

    `sft` loads in transformers, `dpo` is an LSTM, which is kept in our own format.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "params.yaml").write_text("register: {name: test-llm}\n")
    texts = ["pathlib.Path(path)\n\nReads a file.", "How do I import Path?"]
    config = TokenizerConfig(
        init_from="",
        vocab_size=300,
        sample_bytes=10**6,
        min_frequency=2,
        max_digits=1,
        white_space="runs",
    )
    save_tokenizer(tmp_path / "tokenizer", train_tokenizer(iter(texts), config))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer")
    for seed, (name, network) in enumerate({"sft": SHAPE, "dpo": RECURRENT}.items()):
        torch.manual_seed(seed)
        save_model(paths.model(name), LanguageModel(network, tokenizer.vocab_size), tokenizer)
    write_json(paths.metric("benchmark"), SCORES)
    write_json(paths.metric("pretrain"), {"val/bpb": 2.125})
    for name in ("sft", "dpo"):
        write_json(paths.stage("benchmark") / f"{name}.json", {"tasks": {"of": name}})
    write_text(Path(paths.reports) / "report.html", "<html>")
    write_text(Path(paths.reports) / "model_card.md", CARD)
    yield paths
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def test_the_better_model_becomes_a_version_that_answers_as_the_engine_does(project: Paths) -> None:
    lock = {"stages": {"dpo": {"outs": [{"path": "models/dpo", "md5": "abc.dir"}]}}}
    write_json(Path("dvc.lock"), lock)  # JSON is YAML
    metrics = run(Context("register", project, Path(project.work) / "work"), register=REGISTER)
    assert metrics == {"score": 0.5, "sft": 0.25, "dpo": 0.5}

    entry = read_json(project.stage("register") / "version.json")
    assert (entry["name"], entry["version"], entry["model"]) == ("test-llm", "1", "dpo")
    client = MlflowClient()
    version = client.get_model_version_by_alias("test-llm", "candidate")
    assert version.version == 1
    assert version.run_id == entry["run_id"]
    assert client.get_run(entry["run_id"]).info.status == "FINISHED"
    tags = {"out/models/dpo": "abc.dir", "metric/exact_match": "0.5", "model": "dpo"}
    assert {"weights": "upload", **tags}.items() <= version.tags.items()
    assert version.description.startswith("# A model: model card\n\nIt answers.\n\n## Results")
    assert {"git_commit", "git_dirty", "params_sha256"} <= version.tags.keys()

    registry = Registry(tracking_uri_of(Path(project.work)))
    kept = registry.find("candidate", "test-llm")
    assert read_json(registry.files(kept, LOCK_FILE)) == lock
    assert registry.files(kept, PARAMS_FILE).read_text() == "register: {name: test-llm}\n"
    assert read_json(registry.files(kept, "benchmark/dpo.json")) == {"tasks": {"of": "dpo"}}
    assert registry.files(kept, "report/report.html").read_text() == "<html>"
    figures = client.get_run(entry["run_id"]).data.metrics
    assert figures["pretrain/val/bpb"] == 2.125
    assert figures["benchmark/dpo.exact_match"] == 0.5
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {metric.key: metric.value for metric in model.metrics} == figures  # on its page, too
    assert model.params == {"register.name": "test-llm"}
    folder = model_folder(registry, kept)
    assert fingerprint(folder) == fingerprint(project.model("dpo"))
    assert read_json(folder.parents[1] / "input_example.json") == EXAMPLE

    engine = Engine.load(project.model("dpo"), device="cpu")
    asked = {"role": "user", "content": "What does Path read?"}
    params = {"max_new_tokens": 8}
    shutil.rmtree(project.models)  # the version is complete without them
    loaded = mlflow.pyfunc.load_model("models:/test-llm@candidate")
    (expected,) = engine.answer([[asked]], _greedy(8), seed=0)
    assert loaded.predict([asked["content"]], params=params) == [expected]
    assert loaded.predict([{"messages": [asked]}], params=params) == [expected]
    frame = pd.DataFrame({"prompt": [asked["content"]] * 2})
    assert loaded.predict(frame, params=params) == [expected] * 2


def test_weights_by_reference_stay_in_the_cache_and_answer_from_there(
    project: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Context("register", project, Path(project.work) / "work")
    by_reference = REGISTER.model_copy(update={"weights": "reference"})
    with pytest.raises(DataError, match=r"dvc\.lock has no .*models/dpo"):
        run(context, register=by_reference)

    dvc("init", "--no-scm", "--quiet")
    stage = ["stage", "add", "--quiet", "--run", "--name", "dpo", "--outs-persist", "models/dpo"]
    dvc(*stage, "echo")
    monkeypatch.setattr(reference, "_settings", cache(reference._settings.__wrapped__))
    paths = project.model_copy(update={"models": "models"})
    run(Context("register", paths, Path(project.work) / "work"), register=by_reference)

    registry = Registry(tracking_uri_of(Path(project.work)))
    version = registry.find("candidate", "test-llm")
    assert version.tags["weights"] == "reference"
    expected = fingerprint(project.model("dpo"))
    engine = Engine.load(project.model("dpo"), device="cpu")
    shutil.rmtree(project.models)
    assert not list(Path(project.work).rglob("mlartifacts/**/*.safetensors"))
    assert fingerprint(model_folder(registry, version, tmp_path / "work")) == expected

    monkeypatch.chdir("/")  # wherever it is loaded
    loaded = mlflow.pyfunc.load_model("models:/test-llm@candidate")
    asked = [{"role": "user", "content": "What does Path read?"}]
    (answer,) = engine.answer([asked], _greedy(8), seed=0)
    assert loaded.predict([asked[0]["content"]], params={"max_new_tokens": 8}) == [answer]
    shutil.rmtree(tmp_path / ".dvc" / "cache")
    with pytest.raises(DataError, match="is not to be had"):
        mlflow.pyfunc.load_model("models:/test-llm@candidate")


def test_a_changed_params_file_is_kept_and_makes_no_version_dirty(
    project: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (
        ["init", "-q"],
        ["add", "params.yaml"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"],
    ):
        subprocess.run(["git", *command], check=True)
    Path(".gitignore").write_text("*\n")
    Path("params.yaml").write_text("register: {name: other}\n")
    assert version_tags("dpo", {})["git_dirty"] == "false"
    Path("code.py").write_text("")
    subprocess.run(["git", "add", "--force", "code.py"], check=True)
    assert version_tags("dpo", {})["git_dirty"] == "true"


def test_a_long_card_is_cut_between_sections_and_fits_mlflows_column() -> None:
    card = "# Card\n\nIt is.\n" + "".join(f"\n## Part {i}\n\n{'x' * 900}\n" for i in range(9))
    text = describe(card)
    assert len(text) <= 5000
    assert "## Part 4" in text
    assert "## Part 5" not in text
    assert text.endswith("in `report`.")


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"sft": {"exact_match": 0.1}}, r"no number dpo\.exact_match"),
        (
            {"sft": {"bpb": 1.0}, "dpo": {"exact_match": 0.1}},
            r"no number sft\.exact_match.*has bpb",
        ),
    ],
)
def test_a_missing_score_is_an_error_and_never_a_guess(
    tmp_path: Path, scores: dict[str, dict[str, float]], message: str
) -> None:
    write_json(tmp_path / "benchmark.json", scores)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / "benchmark.json", "exact_match")


def test_an_unreachable_mlflow_is_one_error_with_its_remedy(
    project: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9 does not answer.*make up"):
        run(Context("register", project, Path(project.work) / "work"), register=REGISTER)
    assert not project.stage("register").exists()


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame([{"role": "user", "content": "Hello"}]),
        pd.DataFrame([[{"role": "user", "content": "Hello"}, {"role": "user", "content": "?"}]]),
        pd.DataFrame({"messages": [[]]}),
        pd.DataFrame({"prompt": [1.5]}),
    ],
    ids=["bare message", "bare conversation", "no messages", "number"],
)
def test_what_is_neither_prompt_nor_messages_is_refused(rows: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="messages"):
        conversations_of(rows)


def dvc(*args: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *args], check=True)


def _greedy(max_new_tokens: int) -> SamplingConfig:
    return SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=max_new_tokens)
