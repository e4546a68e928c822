"""`llm corpus`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm.cli import app
from llm.corpus.documents import EXTRACTED, text_schema, write_rows
from llm.errors import ConfigError
from tests.conftest import ROOT
from tests.corpus_account import IDS, write_corpus
from tests.stages.corpus_inputs import text_row


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_corpus(tmp_path / "data")
    monkeypatch.chdir(tmp_path)


def llm(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["corpus", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_funnel_shows_every_rule_and_what_is_left():
    lines = [line.split() for line in llm("funnel").splitlines()]
    assert ["filter", "notes", "min_words", "1", "12.5%"] in lines
    assert ["decontaminate", "notes", "3", "37.5%"] in lines
    assert len(json.loads(llm("funnel", "--json"))) == 13


def test_rejects_of_a_rule_are_shown_with_value_and_text():
    shown = llm("rejected", "--rule", "near")
    assert "dedup: near: duplicate of file:kept" in shown
    assert "The text of copy." in shown
    assert len(json.loads(llm("rejected", "--rule", "damaged", "--sample", "1", "--json"))) == 1
    with pytest.raises(ConfigError, match=r"--rule=nope dropped nothing; rules that did: .*near"):
        llm("rejected", "--rule", "nope")


def test_a_trace_tells_stage_by_stage():
    shown = llm("trace", IDS["short"][:10])
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["gather", "extract", "filter"]
    assert "dropped by min_words: 3" in shown
    assert "tokenize       in train, 2 times, 80 tokens" in llm("trace", "file:kept")
    assert "dropped by weight" in llm("trace", "file:thinned")
    assert len(json.loads(llm("trace", "file:kept", "--json"))) == 6
    assert "gather         dropped by damaged: cut off" in llm("trace", "file:x")


def test_a_trace_tells_where_a_text_was_changed(tmp_path: Path):
    row = text_row("kept", "The text of <EMAIL>.")
    write_rows(tmp_path / "data/filter/kept/00000.parquet", [row], text_schema(*EXTRACTED))
    changes = [line.split(maxsplit=1)[1] for line in llm("trace", "file:kept").splitlines()[3:5]]
    assert changes == [
        "kept, its text changed: 360 to 20 characters",
        "kept, its text changed: 20 to 360 characters",
    ]
