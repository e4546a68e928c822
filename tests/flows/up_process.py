"""A real `make up` of the small project, for tests that do things to it."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from flows.worktree import git
from llm.config.base import read_yaml
from llm.tracking.process_id import ProcessId
from tests.conftest import ROOT
from tests.flows.client import FINAL, ended, start, text_of
from tests.ports import free_port
from tests.waiting import PATIENCE_S, wait_for

WAITING = itertools.count(1000)  # seeds with which pretrain ticks until `finish` lets it go on
TICKS = """
    if seed >= 1000:
        step, go = 0, Path.cwd().parents[2] / "go"
        while not go.exists():
            recorder.log(step, {"tick": step})
            print(f"tick {step}", flush=True)
            step += 1
            time.sleep(0.2)
        Path("instructions.begun").touch()  # which a later run has from the cache
"""
DROPPED = ("LLM_", "MLFLOW_", "PREFECT_", "DVC_EXP_NAME", "AWS_")


@dataclass
class Up:
    """A `make up` in `folder`."""

    folder: Path
    process: subprocess.Popen[bytes]
    environment: dict[str, str] = field(repr=False)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.folder / ".llm" / "up.json").read_text())

    @property
    def log(self) -> str:
        return (self.folder.parent / "up.log").read_text()

    def service(self, name: str) -> ProcessId:
        """The process that is this service now."""
        return ProcessId.parse(self.state["processes"][name])

    def kill(self, name: str) -> None:
        """SIGKILL the service's process, and wait for the one that takes its place."""
        killed = self.service(name)
        os.kill(killed.pid, signal.SIGKILL)
        wait_for(lambda: self.service(name) != killed)

    def processes(self) -> list[psutil.Process]:
        """It and everything below it."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]


@contextmanager
def running_up(folder: Path, settings: Mapping[str, str]) -> Iterator[Up]:
    """`make up` in `folder` until the body ends; nothing is left then, and it ended well."""
    up = start_up(folder, settings)
    below: list[psutil.Process] = []
    try:
        yield up
    finally:
        if up.process.poll() is None:
            below = up.processes()
            up.process.send_signal(signal.SIGTERM)
        code = up.process.wait(timeout=PATIENCE_S)
    assert code == 0, up.log
    assert not [process for process in below if ProcessId.of(process.pid).born]
    assert not (folder / ".llm" / "up.json").exists()
    assert not (folder / ".llm" / "env").exists()


def start_up(folder: Path, settings: Mapping[str, str]) -> Up:
    """Start `make up`, and wait until everything answers."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(DROPPED)}
    environment = {**kept, "PYTHONPATH": str(ROOT), **free_ports(), **settings}
    with (folder.parent / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.up"], cwd=folder, env=environment, stderr=log
        )
    up = Up(folder, process, environment)
    wait_for(lambda: process.poll() is not None or "run it" in up.log)
    assert process.poll() is None, up.log
    return up


def free_ports() -> dict[str, str]:
    """Ports that nobody listens on."""
    names = ("LLM_PREFECT_PORT", "LLM_MLFLOW_PORT", "LLM_SERVE_PORT")
    return {name: str(free_port()) for name in names}


def clone(template: Path, folder: Path) -> Path:
    """The small project in `folder`, with a pretrain that can be made to wait."""
    git(template, "clone", "--quiet", str(template), str(folder))
    stage = folder / "stage.py"
    before = '    if name in ("pretrain"'
    text = stage.read_text()
    assert text.count(before) == 1
    stage.write_text(text.replace(before, TICKS.lstrip("\n") + before))
    git(folder, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qam", "pretrain waits")
    return folder


def start_waiting(up: Up, client: SyncPrefectClient) -> FlowRun:
    """A run whose pretrain has begun to tick."""
    (up.folder / "go").unlink(missing_ok=True)
    values = read_yaml(up.folder / "params.yaml")
    values["pretrain"]["seed"] = next(WAITING)  # each once: DVC caches
    run = start(client, {"params": values})

    def ticks() -> bool:
        assert client.read_flow_run(run.id).state_type not in FINAL, text_of(client, run)
        return "tick 2" in text_of(client, run)

    wait_for(ticks)
    return run


def finish(up: Up, client: SyncPrefectClient, run: FlowRun) -> FlowRun:
    """Let pretrain go on, and the run end."""
    (up.folder / "go").touch()
    return ended(client, run)
