import subprocess
import sys
from pathlib import Path

import pytest

from llm.config.params import load_params
from llm.config.presets import preset_names
from tests.conftest import ROOT
from tests.waiting import PATIENCE_S


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    return tmp_path


def llm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from llm.cli import run; run()", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S)


def test_help_is_a_map_of_the_commands(folder: Path) -> None:
    text = llm(folder, "--help").stdout
    assert all(command in text for command in ("generate", "chat", "preset", "check", "compare"))


def test_a_preset_is_written_shown_and_undone(folder: Path) -> None:
    before = load_params(folder / "params.yaml")
    assert llm(folder, "preset").stdout.split() == preset_names(ROOT / "presets")
    shown = llm(folder, "preset", "smoke").stdout
    assert "-  n_layer: 4" in shown
    assert "+  n_layer: 2" in shown
    assert "n_layer: 2" in (folder / "params.yaml").read_text()
    assert llm(folder, "check").stdout == "params.yaml is valid\n"
    llm(folder, "preset", "default")
    assert load_params(folder / "params.yaml") == before


def test_a_wrong_name_or_value_is_one_line_and_exit_code_1(folder: Path) -> None:
    wrong = llm(folder, "preset", "huge")
    assert wrong.returncode == 1
    names = ", ".join(preset_names(ROOT / "presets"))
    assert wrong.stderr == f"error: no preset 'huge'; there are {names}\n"
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("n_layer:", "n_layers:"))
    wrong = llm(folder, "check")
    assert wrong.returncode == 1
    assert "model.n_layers: unknown key; did you mean 'n_layer'?" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_a_missing_model_says_what_makes_one(folder: Path) -> None:
    wrong = llm(folder, "generate", "hello")
    assert wrong.returncode == 1
    assert "no model folder models/base; `make repro` trains" in wrong.stderr
