"""Records stay until MLflow has all of them; logs while somebody writes; weights while a version has them."""

import json
import os
import time
from pathlib import Path

import pytest

from llm.registry.clean.files import log_items, record_items, weight_items
from llm.tracking.process_id import ProcessId

START = {"event": "start", "name": "sft"}
END = {"event": "end", "status": "FINISHED"}


def records(root: Path, *, ended: bool = True, sent: bool = True, process: str = "1.0") -> Path:
    """What a pipeline's stages recorded."""
    folder = root / ".llm" / "tracking" / "repro-1"
    folder.mkdir(parents=True)
    (folder / "owner.json").write_text(json.dumps({"process": process}))
    for name in ("pipeline", "sft-1.0"):
        events = [START, END] if ended else [START]
        spool = folder / f"{name}.jsonl"
        spool.write_text("".join(json.dumps(event) + "\n" for event in events))
        spool.with_suffix(".sent").write_text(str(spool.stat().st_size - (not sent)))
    return folder


def test_delivered_records_go(tmp_path: Path) -> None:
    folder = records(tmp_path)
    (item,), kept = record_items(tmp_path, time.time())
    assert (item.paths, kept) == ((folder,), [])
    assert "younger" in record_items(tmp_path, cutoff=0)[1][0].why


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"sent": False}, "not all of it has reached MLflow"),
        ({"ended": False}, "not all of it has reached MLflow"),
        ({"process": str(ProcessId.current())}, "its pipeline runs"),
    ],
    ids=["unsent", "unended", "running"],
)
def test_other_records_stay(tmp_path: Path, how: dict, reason: str) -> None:
    records(tmp_path, **how)
    freeable, (kept,) = record_items(tmp_path, time.time())
    assert not freeable
    assert reason in kept.why


def test_old_logs_go_but_not_while_the_servers_run(tmp_path: Path) -> None:
    log = tmp_path / ".llm" / "logs" / "mlflow.log"
    log.parent.mkdir(parents=True)
    log.write_text("said\n")
    assert not log_items(tmp_path, cutoff=0)
    assert [item.paths for item in log_items(tmp_path, time.time())] == [(log,)]
    up = tmp_path / ".llm" / "up.json"
    up.write_text(json.dumps({"up": str(ProcessId.of(os.getpid()))}))
    assert not log_items(tmp_path, time.time())


def test_fetched_weights_stay_while_a_version_has_them(tmp_path: Path) -> None:
    for name in ("a" * 32, "b" * 32, "run"):
        (tmp_path / ".llm" / "weights" / name).mkdir(parents=True)
    needed = {"a" * 32 + ".dir"}
    items = weight_items(tmp_path, needed, {"run"}, time.time())
    assert [item.name for item in items] == ["b" * 32]
