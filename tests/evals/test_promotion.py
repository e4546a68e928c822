"""The measuring: what could not be measured says why and is tried again, what is measured stays."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from evals.promotion import arguments, collect, finite
from llm.config.presets import apply_values
from llm.corpus.contamination import write_sets
from llm.corpus.documents import EXTRACTED, text_schema, write_rows
from llm.files import read_json, write_json, write_jsonl
from tests.conftest import ROOT
from tests.evals.conftest import conversations, documents

POLICY = {
    "benchmark": {"device": "cpu"},
    "judge": {"sampling": {"max_new_tokens": 12}},
    "promote": {
        "gates": ["size", "safety", "contamination"],
        "safety": {"prompts": 3, "max_new_tokens": 8, "regurgitation_words": 5},
    },
}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Held-out data without the training text, and a params.yaml in the working directory."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(apply_values(text, POLICY, ""))
    folder = tmp_path / "data"
    write(folder, "heldout", documents())
    write_sets(folder / "decontaminate", {"riddles": [("riddles:0", documents()[4]["text"])]})
    write_jsonl(folder / "instructions" / "test.jsonl", conversations("import"))
    return folder


def write(folder: Path, part: str, rows: list[dict[str, str]]) -> None:
    whole = [{"url": f"python:{row['id']}", "language": "en", **row} for row in rows]
    place = folder / "decontaminate" / part / "00000.parquet"
    write_rows(place, whole, text_schema(*EXTRACTED))


def measure(models: Path, data: Path) -> dict[str, Any]:
    out = data.parent / "evidence.json"
    words = ["--candidate", str(models / "sft"), "--data", str(data), "--out", str(out)]
    collect(arguments(words))
    return read_json(out)


def test_what_cannot_be_measured_says_why_and_is_measured_again(models: Path, data: Path) -> None:
    first = measure(models, data)
    assert first["safety"].keys() == first["contamination"].keys() == {"error"}
    assert "kept holds no document shards" in first["contamination"]["error"]
    assert "latency" not in first  # no gate asks for it

    write_json(data.parent / "evidence.json", {**first, "size": {"candidate": 1}})
    write(data, "kept", documents()[:5])  # four are held out as well, and one is an item
    second = measure(models, data)
    assert second["size"] == {"candidate": 1}  # is not measured anew
    assert second["contamination"]["documents"] == second["contamination"]["sharing"] == 5
    assert second["safety"]["answers"] == 3 + 41
    assert second["safety"]["unsafe"] == len({e["answer"] for e in second["safety"]["examples"]})


def test_what_is_no_number_is_none_in_the_evidence() -> None:
    value = {"a": [1.5, math.nan], "b": {"c": -math.inf, "d": "text", "e": True}}
    assert finite(value) == {"a": [1.5, None], "b": {"c": None, "d": "text", "e": True}}
    json.dumps(finite(value), allow_nan=False)
