"""`llm corpus`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm.cli import app
from llm.errors import ConfigError
from tests.conftest import ROOT
from tests.corpus_account import IDS, write_corpus


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
