"""A stage's record as events on disk, so that no stage waits for MLflow or fails with it.

    with recording("dedup", work, params, deps) as recorder:
        recorder.log(step, {"train/loss": 2.5})

appends JSON lines to `<work>/tracking/<pipeline>/<stage>-<process>.jsonl`; one sender
process per pipeline (`llm.tracking.sender`) imports MLflow once, follows the files and
delivers them. What could not be delivered stays on disk for the next sender. The stage's
process imports no MLflow.

Events: `start` (name, process, params, tags), `metrics` (step, values), `tags`, `artifact`
(path: of a copy that lies beside the file), `end` (status); each has `time_ms`, the Unix
time in milliseconds.

Environment
    LLM_TRACKING=off    record nothing
    LLM_SPOOL           folder of the spools instead of `<work>/tracking`
    LLM_PIPELINE        key of the pipeline run that the stage belongs to, set by a flow
    LLM_PIPELINE_PID    the process whose end is that pipeline's end
    MLFLOW_TRACKING_URI where the records go instead of the project's own SQLite file
"""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm.tracking.lineage import lineage_tags
from llm.tracking.process_id import ProcessId, dvc_ancestor
from llm.tracking.system import system_metrics

PIPELINE_FILE = "pipeline.jsonl"
OWNER_FILE = "owner.json"
LOCK_FILE = "sender.lock"


class Recorder:
    """Appends one run's events to its file; safe to call from any thread."""

    def __init__(self, path: Path | None) -> None:
        """`path` None records nothing."""
        self._file = path.open("a", encoding="utf-8") if path else None
        self._copies = path.with_suffix(".files") if path else None
        self._lock = threading.Lock()
        self._ends: dict[str, tuple[int, float]] = {}  # where each metric's curve is

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics' values at `step`."""
        if metrics:
            values = {key: float(value) for key, value in metrics.items()}
            self._ends |= {key: (int(step), value) for key, value in values.items()}
            self.write("metrics", step=int(step), values=values)

    def log_final(self, metrics: Mapping[str, float]) -> None:
        """Record what the run ended with: at its curve's last step, at 0 where there is no curve."""
        ends: dict[int, dict[str, float]] = {}
        for key, value in metrics.items():
            step, last = self._ends.get(key, (0, None))
            if value != last:
                ends.setdefault(step, {})[key] = value
        for step, values in ends.items():
            self.log(step, values)

    def tag(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        self.write("tags", tags=dict(tags))

    def keep(self, file: Path) -> None:
        """Copy a file to the run's artifacts; a later one of its name replaces it."""
        if self._copies is None:
            return
        self._copies.mkdir(exist_ok=True)
        copy = self._copies / file.name
        partial = copy.with_name(f".{file.name}.partial")
        shutil.copyfile(file, partial)
        partial.replace(copy)  # the sender may be reading the former one
        self.write("artifact", path=str(copy))

    def write(self, event: str, **content: Any) -> None:
        """Append one event; it is on disk, whole, when this returns."""
        line = json.dumps({"event": event, "time_ms": time.time_ns() // 1_000_000, **content})
        with self._lock:
            if self._file is not None:
                self._file.write(line + "\n")
                self._file.flush()

    def close(self) -> None:
        """Later events are dropped."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


@contextmanager
def recording(
    name: str, work: Path, params: Mapping[str, Any], deps: list[str]
) -> Iterator[Recorder]:
    """Record stage `name` while the body runs: FINISHED, FAILED or KILLED by how it ends.

    `params` may be nested. The run is tagged with the git commit and the md5 that
    dvc.lock has for each of `deps`.
    """
    if not tracking_is_on():
        yield Recorder(None)
        return
    path = stage_file(name, work)
    open_pipeline(path.parent)
    tags = {"stage": name, **lineage_tags(params, deps)}
    with _events(path, name, params, tags) as recorder:
        start_sender(path.parent)
        with system_metrics(recorder.log):
            yield recorder


@contextmanager
def recording_pipeline(
    pipeline: Path, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Recorder]:
    """Record the pipeline run itself, of which the stages' runs are children.

    It is tagged with the project's folder, since an MLflow may serve many. Under plain
    `dvc repro` nothing calls this: the sender then opens a parent by itself.
    """
    if not tracking_is_on():
        yield Recorder(None)
        return
    open_pipeline(pipeline)
    tags = {"project": str(Path.cwd()), **tags}
    with _events(pipeline / PIPELINE_FILE, name, params, tags) as recorder:
        start_sender(pipeline)
        yield recorder


def tracking_is_on() -> bool:
    """False when LLM_TRACKING=off."""
    return os.environ.get("LLM_TRACKING", "on") != "off"


def stage_file(name: str, work: Path) -> Path:
    """Where this process records stage `name`: the same path whenever it asks."""
    return pipeline_folder(work) / f"{name}-{ProcessId.current()}.jsonl"


def pipeline_folder(work: Path) -> Path:
    """The folder that all stages of one pipeline run share, whoever started it."""
    root = Path(os.environ.get("LLM_SPOOL") or work / "tracking")
    return root.absolute() / _safe(_pipeline_key())


def tracking_uri(pipeline: Path) -> str:
    """MLflow's address: MLFLOW_TRACKING_URI, or the SQLite file beside the spools."""
    default = f"sqlite:///{pipeline.parent.parent / 'mlflow.db'}"
    return os.environ.get("MLFLOW_TRACKING_URI") or default


def start_sender(pipeline: Path) -> None:
    """Start the sender of this pipeline run unless one is at work; returns at once."""
    with (
        (pipeline / LOCK_FILE).open("a") as lock,
        (pipeline.parent / "sender.log").open("a") as log,
    ):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        subprocess.Popen(
            [sys.executable, "-m", "llm.tracking.sender", str(pipeline)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it outlives the stage, and Ctrl-C
            pass_fds=[lock.fileno()],  # and inherits the lock, from its first instant to its last
        )


def append_event(path: Path, event: str, **content: Any) -> None:
    """Append one event to a file that no process of the run writes (any more)."""
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            if file.read(1) != b"\n":  # its writer was killed in the middle of a line
                file.write(b"\n")
        file.write(_line(event, content).encode())


def flatten_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested params under dotted names; what is not a mapping becomes JSON text."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= flatten_params(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of nested metrics under the dotted names that DVC gives them; nothing else."""
    flat: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[prefix + key] = float(value)
    return flat


@contextmanager
def _events(
    path: Path, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
) -> Iterator[Recorder]:
    """From `start` to `end`, whatever happens in between short of SIGKILL."""
    recorder = Recorder(path)
    process = ProcessId.current()
    recorder.write(
        "start",
        name=name,
        process=str(process),
        params=flatten_params(params),
        tags=dict(tags),
    )
    status, error = "FINISHED", ""
    try:
        yield recorder
    except BaseException as caught:
        status, error = _status_of(caught), f"{type(caught).__name__}: {caught}"
        raise
    finally:
        recorder.write("end", status=status, tags={"error": error[:2000]} if error else {})
        recorder.close()


def _status_of(error: BaseException) -> str:
    """KILLED by Ctrl-C or SIGTERM (an exit with code 128 + signal); FAILED otherwise."""
    if isinstance(error, KeyboardInterrupt):
        return "KILLED"
    if isinstance(error, SystemExit):
        code = error.code
        if code in (None, 0):
            return "FINISHED"
        return "KILLED" if isinstance(code, int) and code > 128 else "FAILED"
    return "FAILED"


def _pipeline_key() -> str:
    if key := os.environ.get("LLM_PIPELINE") or os.environ.get("DVC_EXP_NAME"):
        return key
    return f"repro-{_owner()}"


def _owner() -> ProcessId:
    """The process whose end is the pipeline's end."""
    if pid := os.environ.get("LLM_PIPELINE_PID"):
        return ProcessId.of(int(pid))
    return dvc_ancestor() or ProcessId.current()


def open_pipeline(pipeline: Path) -> None:
    """Say whose end ends the pipeline, and where its records go; the latest stage's word counts."""
    pipeline.mkdir(parents=True, exist_ok=True)
    owner = {
        "process": str(_owner()),
        "project": str(Path.cwd()),
        "tracking_uri": tracking_uri(pipeline),
    }
    partial = pipeline / f".{OWNER_FILE}.{os.getpid()}"
    partial.write_text(json.dumps(owner), encoding="utf-8")
    partial.replace(pipeline / OWNER_FILE)


def _line(event: str, content: Mapping[str, Any]) -> str:
    now_ms = time.time_ns() // 1_000_000
    return json.dumps({"event": event, "time_ms": now_ms, **content}) + "\n"


def _safe(key: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", key)
