"""A pipeline's results have the names that DVC gives them, and none that its params did not make."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llm.errors import ConfigError, DataError
from llm.files import write_json, write_text
from llm.tracking.results import current_stages, files_of, read_results
from llm.tracking.spool import Recorder, flatten

LOCK = {
    "pretrain": {
        "params": {"params.yaml": {"model": {"n_embd": 8}, "pretrain.seed": 1}},
        "outs": [{"path": "models/base", "md5": "111.dir"}],
    },
    "sft": {
        "deps": [{"path": "llm/files.py", "md5": "9"}, {"path": "models/base", "md5": "111.dir"}],
        "outs": [{"path": "models/sft", "md5": "222.dir"}],
    },
    "dpo": {"deps": [{"path": "models/sft", "md5": "222.dir"}]},
}
PARAMS = {"model": {"n_embd": 8}, "pretrain": {"seed": 1}}


def test_every_stage_of_an_untouched_lock_is_current() -> None:
    assert current_stages(LOCK, PARAMS) == ["pretrain", "sft", "dpo"]


@pytest.mark.parametrize("params", [{"model": {"n_embd": 16}, "pretrain": {"seed": 1}}, {}])
def test_what_other_params_made_is_not_current_nor_what_follows(params: dict[str, Any]) -> None:
    assert current_stages(LOCK, params) == []


def test_a_stage_behind_its_input_is_not_current_nor_what_follows() -> None:
    again = {
        **LOCK,
        "pretrain": {**LOCK["pretrain"], "outs": [{"path": "models/base", "md5": "3"}]},
    }
    assert current_stages(again, PARAMS) == ["pretrain"]


def test_results_are_named_by_stage_and_key(tmp_path: Path) -> None:
    write_json(tmp_path / "params.yaml", {**PARAMS, "paths": {"metrics": "scores"}, "kinds": ["a"]})
    write_json(tmp_path / "dvc.lock", {"schema": "2.0", "stages": LOCK})
    write_json(tmp_path / "scores" / "pretrain.json", {"val/bpb": 2.0, "note": "text", "ok": True})
    write_json(tmp_path / "scores" / "sft.json", {"dropped": {"too long": 3}})
    write_json(tmp_path / "scores" / "gather.json", {"documents": 9})  # no stage has written it
    results = read_results(files_of(tmp_path))
    assert results.metrics == {"pretrain/val/bpb": 2.0, "sft/dropped.too long": 3.0}
    assert results.params["pretrain.seed"] == "1"
    assert results.params["kinds"] == '["a"]'
    assert read_results(files_of(tmp_path / "nowhere")) == ({}, {})


def test_a_file_that_is_not_what_it_should_be_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "dvc.lock", {"stages": {"gather": {}}})
    write_text(tmp_path / "metrics" / "gather.json", "{")
    with pytest.raises(DataError, match=r"metrics/gather.json:1: not JSON"):
        read_results(files_of(tmp_path))
    write_text(tmp_path / "params.yaml", "a: [")
    with pytest.raises(ConfigError, match=r"params\.yaml is not valid YAML"):
        read_results(files_of(tmp_path))


def test_metrics_have_the_names_that_dvc_shows(tmp_path: Path) -> None:
    metrics = {"val/bpb": 2.5, "sft": {"exact_match": 0.5, "docs_import": {"n": 3}}, "pairs": 4}
    write_json(tmp_path / "metrics.json", metrics)
    write_text(tmp_path / "dvc.yaml", "metrics: [metrics.json]\n")
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True
    )
    command = [sys.executable, "-m", "dvc", "metrics", "show", "--md"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    header, _, row = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.split("\n")[:3]
    )
    shown = {name: float(cell) for name, cell in zip(header[1:], row[1:], strict=True)}
    assert shown == flatten(metrics)


def test_flattening_leaves_out_what_is_no_number() -> None:
    assert flatten({"a": {"b": 1, "c": "text"}, "d": 2.5, "e": True}) == {"a.b": 1.0, "d": 2.5}


def test_last_values_stand_at_the_end_of_their_curves(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run.jsonl")
    recorder.log(200, {"val/loss": 3.0, "val/bpb": 2.0})
    recorder.log_final({"val/loss": 3.0, "val/bpb": 1.5, "steps": 200})
    recorder.close()
    events = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [(event["step"], event["values"]) for event in events] == [
        (200, {"val/loss": 3.0, "val/bpb": 2.0}),
        (200, {"val/bpb": 1.5}),
        (0, {"steps": 200.0}),
    ]
