"""`llm depth`: one number, and params.yaml has all that goes with it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm.cli import app
from llm.config.params import load_params
from llm.errors import ConfigError
from tests.conftest import ROOT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def depth(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["depth", *arguments])
    if result.exception:
        raise result.exception
    return result.output


def test_a_depth_is_written_shown_and_let_go(folder: Path) -> None:
    before = load_params(folder / "params.yaml")
    shown = depth("6")
    assert "-  n_layer: 4" in shown
    assert "+  n_layer: 6" in shown
    params = load_params(folder / "params.yaml")
    assert (params.model.depth, params.model.n_embd) == (6, 384)
    assert depth("6") == "params.yaml already has the values of depth 6\n"
    assert "+  depth: null" in depth("off")
    after = load_params(folder / "params.yaml")
    assert after.model == params.model.model_copy(update={"depth": None})
    assert after.pretrain == params.pretrain != before.pretrain


def test_without_a_number_it_shows_what_there_is_to_choose(folder: Path) -> None:
    text = (folder / "params.yaml").read_text()
    header, *rows = depth().splitlines()
    assert header.split()[:4] == ["depth", "width", "heads", "parameters"]
    assert [row.split()[0] for row in rows] == ["2", "4", "6", "8", "12", "16", "20", "24", "32"]
    assert rows[4].split()[1:3] == ["768", "12"]
    assert (folder / "params.yaml").read_text() == text


@pytest.mark.parametrize("wrong", ["0", "six", "2.5"])
def test_no_number_of_layers_is_refused(folder: Path, wrong: str) -> None:
    with pytest.raises(ConfigError, match=f"depth '{wrong}' must be a number of layers, 1 or more"):
        depth(wrong)
