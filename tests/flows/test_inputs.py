"""Files that a run would miss are named before it does any work."""

from pathlib import Path

import pytest

from flows.inputs import check_inputs
from llm.config.base import read_yaml, validate
from llm.config.params import Params
from llm.errors import ConfigError
from tests.conftest import ROOT

STAGES = ("gather", "decontaminate", "instructions", "sft", "preferences")


def params(path: str) -> Params:
    values = read_yaml(ROOT / "params.yaml")
    values["gather"]["sources"].append(
        {
            "kind": "folder",
            "name": "mine",
            "path": path,
            "text_field": "text",
            "limits": {"max_documents": 0, "max_record_bytes": 1000, "max_inflation": 10},
        }
    )
    values["decontaminate"]["evaluation_sets"] = ["sets/a.jsonl"]
    values["instructions"]["extra"] = ["more.jsonl"]
    values["sft"]["init_from"] = "published"
    values["preferences"]["extra"] = [str(ROOT / "README.md")]  # absolute: the same everywhere
    return validate(Params, values, "")


def test_every_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    root, folder = tmp_path / "root", tmp_path / "tree"
    (root / "corpus").mkdir(parents=True)
    (folder / "sets").mkdir(parents=True)
    (folder / "sets" / "a.jsonl").touch()
    with pytest.raises(ConfigError) as caught:
        check_inputs(root, folder, params("corpus"), STAGES)
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("gather.sources 'mine': corpus is not committed")
    assert first.endswith(f"or name it by its absolute path, {root / 'corpus'}")
    assert second == "instructions.extra: more.jsonl does not exist"
    assert third == "sft.init_from: published does not exist"


def test_a_stage_that_does_not_run_needs_no_file(tmp_path: Path) -> None:
    check_inputs(tmp_path, tmp_path, params("corpus"), ("extract", "preferences"))
    check_inputs(tmp_path, tmp_path, params(str(tmp_path)), ("gather",))
