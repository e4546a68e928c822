"""Small things in `.llm`: records that are delivered, logs that nobody writes, weights of gone versions."""

import fcntl
import json
from collections.abc import Collection
from pathlib import Path

from llm.files import read_json
from llm.registry.clean.plan import Freeable, Kept, newest, young
from llm.tracking.process_id import ProcessId
from llm.tracking.spool import LOCK_FILE, OWNER_FILE, PIPELINE_FILE

RECORDS, LOG, WEIGHTS = "records", "log", "weights"


def record_items(root: Path, cutoff: float) -> tuple[list[Freeable], list[Kept]]:
    """Folders of records on their way to MLflow: only what has arrived, to the last event, goes."""
    freeable, kept = [], []
    for folder in sorted(path for path in (root / ".llm" / "tracking").glob("*") if path.is_dir()):
        if newest(folder) > cutoff:
            kept.append(young(RECORDS, folder))
        elif _is_running(folder):
            kept.append(Kept(RECORDS, folder.name, "its pipeline runs"))
        elif not _is_delivered(folder):
            why = "not all of it has reached MLflow; the next run's sender delivers it"
            kept.append(Kept(RECORDS, folder.name, why))
        else:
            freeable.append(Freeable(RECORDS, folder.name, "MLflow has them", (folder,)))
    return freeable, kept


def log_items(root: Path, cutoff: float) -> list[Freeable]:
    """Logs of servers and senders that have not been written for long, while no `make up` runs."""
    work = root / ".llm"
    if _serves(work):
        return []
    logs = sorted([*(work / "logs").glob("*.log*"), work / "tracking" / "sender.log"])
    return [
        Freeable(LOG, path.relative_to(root).as_posix(), "nobody writes it", (path,))
        for path in logs
        if path.is_file() and newest(path) <= cutoff
    ]


def weight_items(
    root: Path, needed: Collection[str], run_ids: Collection[str], cutoff: float
) -> list[Freeable]:
    """Weights that were fetched for a version (by md5 or run id) that is registered no more."""
    known = {md5.removesuffix(".dir") for md5 in needed} | set(run_ids)
    return [
        Freeable(WEIGHTS, folder.name, "no registered version has them", (folder,))
        for folder in sorted((root / ".llm" / "weights").glob("*"))
        if folder.name not in known and newest(folder) <= cutoff
    ]


def _is_delivered(folder: Path) -> bool:
    """Whether every record has ended and been sent, the pipeline's own included."""
    spools = sorted(folder.glob("*.jsonl"))
    if not spools:
        return True
    return (folder / PIPELINE_FILE) in spools and all(
        _has_ended(spool) and _sent(spool) == spool.stat().st_size for spool in spools
    )


def _has_ended(spool: Path) -> bool:
    lines = spool.read_text(encoding="utf-8", errors="replace").splitlines()
    try:
        return any(json.loads(line)["event"] == "end" for line in lines)
    except (ValueError, KeyError, TypeError):
        return False


def _sent(spool: Path) -> int:
    path = spool.with_suffix(".sent")
    return int(path.read_text(encoding="utf-8")) if path.is_file() else -1


def _is_running(folder: Path) -> bool:
    """Whether the pipeline goes on, or a sender is at work on what it left."""
    owner = folder / OWNER_FILE
    if owner.is_file() and ProcessId.parse(read_json(owner)["process"]).is_alive():
        return True
    lock = folder / LOCK_FILE
    if not lock.is_file():
        return False
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _serves(work: Path) -> bool:
    state = work / "up.json"
    return state.is_file() and ProcessId.parse(read_json(state)["up"]).is_alive()
