"""What a run made is shown from the stages' files; what they said adds no markup."""

import json
import re
from base64 import b64decode
from pathlib import Path

import pytest

from flows.artifacts import (
    Artifacts,
    corpus_text,
    curve_writer,
    judge_text,
    plain,
    samples_text,
    scores_text,
    table,
    version_text,
)
from flows.links import mlflow_page, records_link
from llm.config.params import load_params
from llm.config.paths import Paths
from llm.files import write_json
from tests.conftest import ROOT

EVIL = '<img src=x onerror="alert(1)"> [a](javascript:b) | c\n# d `e` \\ & _f_'


@pytest.fixture
def made(paths: Paths) -> Paths:
    """Files as the stages write them."""
    write_json(paths.metric("gather"), {"documents": 1000})
    write_json(paths.metric("extract"), {"documents_kept": 990, "failed": {"empty": 10}})
    write_json(paths.metric("filter"), {"documents_kept": 800, "dropped": {"min_words": 190}})
    write_json(paths.metric("dedup"), {"documents_kept": 700, "exact": 60, "near": 40})
    write_json(paths.metric("decontaminate"), {"documents_kept": 650, "heldout": 30, "dropped": 20})
    write_json(
        paths.metric("judge"),
        {"win_rate": 0.52, "win_rate_low": 0.48, "win_rate_high": 0.56, "pairs": 150},
    )
    write_json(
        paths.stage("register") / "version.json",
        {"name": "llm", "version": "3", "alias": "candidate", "model": "dpo", "run_id": "abc"},
    )
    paths.plot("sft").parent.mkdir(parents=True)
    paths.plot("sft").write_text("step,train/loss,val/loss\n10,5.5,\n20,4.25,4.5\n")
    for model, score in (("base", 0.0), ("sft", 0.7), ("dpo", 0.75)):
        sample = {
            "prompt": EVIL,
            "reference": "numpy",
            "answer": f"{model} says",
            "correct": score > 0,
        }
        entry = {
            "metric": "exact_match",
            "score": score,
            "stderr": 0.04,
            "n": 120,
            "samples": [sample],
        }
        write_json(paths.stage("benchmark") / f"{model}.json", {"tasks": {"docs_import": entry}})
    return paths


def test_the_funnel_counts_what_is_left_and_why_the_rest_went(made: Paths) -> None:
    text = corpus_text(made)
    assert "| dedup | 700 | 70.0 % |" in text
    assert "| filter | min words | 190 |" in text


def test_scores_have_errors_and_samples_every_models_answer(made: Paths) -> None:
    assert (
        r"| docs\_import | exact\_match | 120 | 0.000 ± 0.040 | 0.700 ± 0.040 | 0.750 ± 0.040 |"
        in (scores_text(made))
    )
    text = samples_text(made)
    assert "- base ✗ base says\n- sft ✓ sft says\n- dpo ✓ dpo says" in text
    assert "95 % interval 48.0 to 56.0 %" in judge_text(made)


def test_a_curve_is_a_picture_in_the_text(made: Paths) -> None:
    text = curve_writer("sft")(made)
    assert "Loss over 20 steps; at the end train 4.250, validation 4.500." in text
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert found
    svg = b64decode(found[1]).decode()
    assert svg.startswith("<svg ")
    assert "currentColor" not in svg  # which is black in a picture


def test_what_a_model_said_adds_no_markup() -> None:
    shown = plain(EVIL)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)(?:\\\\)*[<>|`_\[\]#&]", shown)
    assert plain("a" * 1000).endswith(" …")
    assert table(("a", "b"), [("x|y", 1)]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 |"


def test_links_lead_to_mlflow_without_its_password(
    made: Paths, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@records.example/mlflow")
    assert mlflow_page("/runs/1") == "https://records.example/mlflow/#/runs/1"
    text = version_text(made)
    assert "https://records.example/mlflow/#/models/llm/versions/3" in text
    assert "/runs/abc/artifacts/report/report.html" in text
    assert "secret" not in text
    spool = tmp_path / "spool"
    spool.mkdir()
    (spool / "pipeline.run").write_text("def")
    assert "https://records.example/mlflow/#/runs/def" in records_link(spool)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert "make up" in version_text(made)


def test_what_is_missing_or_broken_leaves_one_artifact_out(
    made: Paths, tmp_path: Path, caplog
) -> None:
    shown: dict[str, str] = {}
    params = load_params(ROOT / "params.yaml")
    artifacts = Artifacts("00000000-0000-0000-0000-000000000000", tmp_path, params)
    artifacts.show = shown.__setitem__  # instead of Prefect's server
    for stage in ("gather", "pretrain", "sft", "benchmark"):
        artifacts.publish(stage)
    assert shown.keys() == {"curve-sft", "scores", "samples"}
    assert "artifact curve-pretrain is left out" in caplog.text
    (made.stage("benchmark") / "dpo.json").write_text(json.dumps({"tasks": {}}))
    artifacts.publish("benchmark")
    assert "artifact scores is left out" in caplog.text
