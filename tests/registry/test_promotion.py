"""Promotions of real versions: the better one goes through, a worse one is refused with the reason."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from evals import promotion as measuring
from llm.config.params import Params, load_params
from llm.errors import DataError
from llm.files import read_json
from llm.registry import reference
from llm.registry.moves import Said, history
from llm.registry.promotion import Answer, Decision, Refused, promote
from llm.registry.versions import CHAMPION, PREVIOUS, Registry, tracking_uri_of
from tests.waiting import PATIENCE_S

ADA = Said("Ada", "better answers")
HALT = """
import logging, signal

emit = logging.StreamHandler.emit

def emit_and_halt(handler, record):
    emit(handler, record)
    if str(record.msg).startswith("candidate answers"):
        signal.pause()

logging.StreamHandler.emit = emit_and_halt
"""


def registry_here() -> Registry:
    return Registry(tracking_uri_of(Path(".llm")))


def measure_here(command: list[str]) -> None:
    """The measuring process's work, in this one: it need not import torch again."""
    assert command[1:3] == ["-m", "evals.promotion"]
    measuring.collect(measuring.arguments(command[3:]))


def some_gates(*gates: str) -> Params:
    params = load_params(Path("params.yaml"))
    return params.model_copy(
        update={"promote": params.promote.model_copy(update={"gates": list(gates)})}
    )


def crown(number: str, params: Params | None = None, ask=None) -> list[Decision]:
    """Promote with real evidence; returns what was shown."""
    shown: list[Decision] = []
    params = params or load_params(Path("params.yaml"))
    promote(registry_here(), number, params, ADA, run=measure_here, show=shown.append, ask=ask)
    return shown


def champion() -> str | None:
    found = registry_here().by_alias("llm", CHAMPION)
    return found.number if found else None


def test_a_worse_version_is_refused_and_an_equal_one_by_reference_is_promoted(
    promotable: Path,
) -> None:
    (first,) = crown("1")
    assert champion() == "1"
    assert first.failed == []
    assert not (Path(".llm") / "promotion").exists() or not list(Path(".llm/promotion").iterdir())
    assert crown("1") == []  # it is the champion already

    with pytest.raises(Refused, match="models:/llm/2 is not promoted; gates failed: tasks, bpb"):
        crown("2")
    assert champion() == "1"
    registry = registry_here()
    worse = registry.find("2", "llm")
    assert worse.tags["gate/tasks"] == "fail"
    assert worse.tags["gate/lineage"] == worse.tags["gate/safety"] == "pass"
    (evidence,) = registry.files(worse, "promotion").glob("*.json")
    kept = read_json(evidence)
    task = kept["evidence"]["scores"]["tasks"]["docs_import"]
    assert (task["candidate"], task["champion"], task["losses"]) == (0.0, 1.0, 16)
    assert task["p_worse"] == 2**-16
    assert kept["champion"] == "models:/llm/1"
    words = gate_words("2", "tasks")
    assert words.startswith("significantly worse: docs_import 0.000, champion's 1.000 (16 items")
    assert words in evidence.with_suffix(".md").read_text()

    (equal,) = crown("3")
    assert registry.find("3", "llm").tags["weights"] == "reference"
    assert equal.failed == []
    assert equal.evidence["judge"]["win_rate"] == 0.5
    assert (champion(), registry.find(PREVIOUS, "llm").number) == ("3", "1")
    told = [(move.action, move.version) for move in history(registry, "llm")]
    assert told == [("promoted", "1"), ("refused", "2"), ("promoted", "3")]
    again = registry.find("3", "llm").tags
    assert (again["champion/by"], again["champion/reason"]) == ("Ada", "better answers")


def test_a_person_can_decline_and_the_comment_is_kept(promotable: Path) -> None:
    only_size = some_gates("size")
    with pytest.raises(Refused, match="declined by Bob: not on a Friday"):
        crown("1", only_size, lambda decision: Answer(False, "Bob", "not on a Friday"))
    assert champion() is None
    crown("1", only_size, lambda decision: Answer(True, "Bob", ""))
    assert champion() == "1"
    moves = history(registry_here(), "llm")
    told = [(m.action, m.by, m.reason, m.gates) for m in moves]
    assert told == [
        ("declined", "Bob", "not on a Friday", "1 gate passed"),
        ("promoted", "Bob", "better answers", "1 gate passed"),
    ]


def test_a_champion_whose_weights_are_gone_fails_every_comparison(promotable: Path) -> None:
    crown("3", some_gates("size"))
    lose_weights()
    with pytest.raises(Refused, match=r"failed: tasks, bpb, judge, latency, size$"):
        crown("1")
    assert champion() == "3"
    words = gate_words("1", "judge")
    assert words.startswith("the champion's numbers cannot be had: models/sft")
    assert gate_words("1", "safety") == "0 of 45 answers unsafe, 0.0%"


def test_a_candidate_whose_weights_are_gone_is_an_error(promotable: Path) -> None:
    lose_weights()
    with pytest.raises(DataError, match=r"models/sft .* model\.safetensors .* is not to be had"):
        crown("3")


def lose_weights() -> None:
    """Version 3 refers to weights that neither DVC's cache nor a remote has."""
    (stored,) = Path(".llm/mlartifacts").rglob("weights.json")
    weights = reference.read_reference(stored)
    gone = [
        replace(file, md5="0" * 32) if file.path == "model.safetensors" else file
        for file in weights.files
    ]
    reference.write_reference(stored, replace(weights, files=tuple(gone)))


def gate_words(number: str, gate: str) -> str:
    """What the version's file says about the gate."""
    registry = registry_here()
    (file,) = registry.files(registry.find(number, "llm"), "promotion").glob("*.json")
    (words,) = [row["evidence"] for row in read_json(file)["verdicts"] if row["gate"] == gate]
    return words


def test_a_version_without_lineage_is_refused(promotable: Path) -> None:
    version = registry_here().find("1", "llm")
    shutil.rmtree(registry_here().files(version, "lineage"))
    with pytest.raises(Refused, match="failed: safety, contamination, latency, size, lineage"):
        crown("1")


def test_weights_that_are_not_those_of_the_run_fail_the_lineage(promotable: Path) -> None:
    registry = registry_here()
    lock = registry.files(registry.find("1", "llm"), "lineage/dvc.lock")
    lock.write_text(registry.files(registry.find("2", "llm"), "lineage/dvc.lock").read_text())
    with pytest.raises(Refused, match="failed: lineage"):
        crown("1", some_gates("lineage"))
    registry.set_tags(registry.find("2", "llm"), {"git_dirty": "true"})
    with pytest.raises(Refused, match="failed: lineage"):
        crown("2", some_gates("lineage"))
    crown("3", some_gates("lineage"))


def test_items_that_the_champion_may_have_seen_are_left_out(promotable: Path) -> None:
    registry = registry_here()
    crown("1", some_gates("size"))
    for number, share in (("1", 0.6), ("3", 0.9)):
        kept = registry.files(registry.find(number, "llm"), "lineage/params.yaml")
        kept.write_text(kept.read_text().replace("heldout_frac: 0.03", f"heldout_frac: {share}"))
    (decision,) = crown("3", some_gates("tasks"))
    items = decision.evidence["items"]
    assert items["questions"] + items["questions_left_out"] == 16
    assert items["documents_left_out"] == items["questions_left_out"] > 0
    task = decision.evidence["scores"]["tasks"]["docs_import"]
    assert task["n"] == items["questions"]
    assert "items beyond the champion's share are left out" in decision.evidence["heldout"]


def test_a_promotion_that_is_killed_continues_where_it_was(
    promotable: Path, tmp_path: Path
) -> None:
    """With the real command: SIGKILL while it measures, then once more."""
    (tmp_path / "sitecustomize.py").write_text(HALT)
    command = [sys.executable, "-m", "llm.cli", "promote", "--reason", "first"]
    root = Path(__file__).parents[2]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), "HOME": str(promotable)}
    halting = environment | {"PYTHONPATH": f"{tmp_path}:{root}"}
    process = subprocess.Popen(command, env=halting, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "candidate answers" in line)  # after two parts
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert line
    assert not alive  # the measuring process ends with the command
    (folder,) = Path(".llm/promotion").iterdir()
    before = json.loads((folder / "alone.json").read_text())
    assert {"size", "contamination"} <= before.keys()
    assert champion() is None

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "training text searched" not in done.stderr  # that part was measured already
    assert "promoted: version 3 is the champion" in done.stdout
    assert champion() == "3"
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "candidate is the champion already; nothing was changed" in again.stdout
