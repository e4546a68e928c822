"""Curves come from DVC's cache by the hashes of a run's dvc.lock."""

import json
from pathlib import Path

from llm.sweep.curves import parse_curve, read_curves


def test_curves_are_those_of_the_lock_as_far_as_the_cache_has_them(tmp_path: Path) -> None:
    outs = {"pretrain": "abc", "sft": "def", "report": "eee"}
    lock = {
        stage: {"outs": [{"path": f"plots/{stage}.csv", "md5": md5}]} for stage, md5 in outs.items()
    }
    lock["report"]["outs"][0]["path"] = "plots/funnel.csv"
    files = {"dvc.lock": json.dumps({"stages": lock})}
    cached = tmp_path / "files" / "md5" / "ab" / "c"
    cached.parent.mkdir(parents=True)
    cached.write_text("step,train/loss,val/loss\n1,2.5,\n2,2.0,1.5\n")
    assert read_curves(files.get, tmp_path) == {
        "pretrain": [
            {"step": 1, "train/loss": 2.5},
            {"step": 2, "train/loss": 2.0, "val/loss": 1.5},
        ]
    }


def test_a_table_that_is_no_curve_is_none() -> None:
    assert parse_curve("stage,documents\ngather,3\n") == []
    assert parse_curve("step,words\n1,many\n") == []
    assert parse_curve("") == []
