"""`llm plan`: a table for people, JSON for machines, exit code 1 for what cannot be."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llm import trial
from llm.cli import app
from tests.conftest import ROOT
from tests.plan.flop_clock import flops

TEXT = (ROOT / "params.yaml").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(TEXT)
    (tmp_path / "presets").symlink_to(ROOT / "presets")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["plan", *arguments])


def test_a_table_and_a_verdict(folder: Path) -> None:
    shown = plan("--no-timed", "--preset", "smoke")
    assert shown.exit_code == 0
    for text in ("158 k parameters", "pretrain", "memory", "checkpoints", "fits", "102 k"):
        assert text in shown.output, text
    assert (folder / "params.yaml").read_text() == TEXT


def test_some_steps_of_every_stage_are_timed(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(trial, "_seconds", lambda *run: flops(*run) / 1e9)
    shown = plan("--json", "--preset", "smoke")
    assert shown.exit_code == 0
    found = json.loads(shown.stdout)
    assert found["fits"]
    for stage in ("pretrain", "sft", "reward", "dpo"):
        assert 4 < found["stages"][stage]["time_s"] < 600
    assert found["time_s"] > 0
    assert set(found["stages"]["dpo"]["memory"]) >= {"weights", "activations", "optimizer"}
    assert found["stages"]["pretrain"]["work"]["tokens"] == 102_400


def test_what_cannot_be_is_exit_code_1(folder: Path) -> None:
    huge = TEXT.replace("n_layer: 4", "n_layer: 4_000_000")
    (folder / "params.yaml").write_text(huge)
    refused = plan("--no-timed")
    assert refused.exit_code == 1
    assert "cannot run  pretrain: 7" in refused.output
    assert "fits" not in refused.output.split()


def test_a_gpu_that_is_not_here(folder: Path) -> None:
    shown = plan("--preset", "gpt2-124m", "--gpu", "h100")
    assert shown.exit_code == 0
    assert "fits  1 x h100 of 80.0 GiB" in shown.output
    assert plan("--gpu", "h1000").exit_code == 1
