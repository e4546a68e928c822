"""A real Dask cluster for tests: a scheduler and two workers on loopback."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

from tests.ports import free_port
from tests.waiting import PATIENCE_S, wait_for


@dataclass(frozen=True)
class Cluster:
    """Where maps run, and the processes that make it."""

    scheduler: str
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    workers: int = 1

    @property
    def worker_processes(self) -> list[subprocess.Popen[bytes]]:
        return self.processes[1:]

    def start(self, kind: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{kind}", *arguments, "--no-dashboard"]
        with (self.folder / f"{len(self.processes)}.log").open("w") as log:
            process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self.processes.append(process)

    def start_worker(self) -> None:
        self.start("dask_worker", self.scheduler, "--nthreads=1", "--no-nanny")

    def end(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@contextmanager
def dask_cluster(folder: Path, workers: int = 2) -> Iterator[Cluster]:
    """A scheduler and its workers, started in a folder that is no checkout."""
    folder.mkdir()
    port = free_port()
    cluster = Cluster(f"tcp://127.0.0.1:{port}", folder)
    try:
        cluster.start("dask_scheduler", "--host=127.0.0.1", f"--port={port}")
        wait_for(lambda: _answers(port))
        for _ in range(workers):
            cluster.start_worker()
        if workers:
            with Client(cluster.scheduler, timeout=PATIENCE_S, set_as_default=False) as client:
                client.wait_for_workers(workers, PATIENCE_S)
        yield cluster
    finally:
        cluster.end()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True
