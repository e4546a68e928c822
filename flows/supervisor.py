"""Processes that run until they are stopped: watched, and started again when they die.

A server's socket is opened here and inherited, so that it outlives the server: while one
is started again, those who ask it wait.
"""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from socket import socket

from flows.command import end_group
from flows.running import SERVER_GRACE_S, end_all, write_state
from llm import tied
from llm.errors import LLMError
from llm.listening import BACKLOG, LISTEN_FD

START_S = 180.0  # a first start makes the databases
STEADY_S = 60.0  # what has run that long has recovered from earlier deaths
DEATHS = 5  # in a row, until it is given up; the waits between are 0, 1, 2 and 4 s

logger = logging.getLogger(__name__)


@dataclass
class Service:
    """A process to keep running, and how it is doing."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(repr=False)
    is_ready: Callable[[], bool]
    listener: socket | None = None
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0  # in a row
    started: float = 0.0  # monotonic seconds
    due: float | None = None  # when it is started again
    ender: threading.Thread | None = None  # ends what a dead one has left


class Supervisor:
    """Starts services, keeps them running, and writes down what runs."""

    def __init__(self, root: Path, addresses: dict[str, str]) -> None:
        self.root, self.addresses = root, addresses
        self.services: list[Service] = []  # in the order in which they were started
        self._enders: list[threading.Thread] = []

    def start(self, service: Service) -> None:
        """Start it, tied to us: Linux ends it when we are killed."""
        service.deaths = 0
        log = self.log(service)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_bytes(b"")
        self.services = [*(each for each in self.services if each is not service), service]
        self._spawn(service)

    def wait(self, services: list[Service]) -> None:
        """Until each is ready; LLMError when one ends instead, or takes more than START_S."""
        deadline = time.monotonic() + START_S
        for service in services:
            assert service.process is not None, service.name
            while not service.is_ready():
                if service.process.poll() is not None or time.monotonic() > deadline:
                    raise LLMError(f"{service.name} did not start; its log is {self.log(service)}")
                time.sleep(0.1)

    def watch(self) -> list[Service]:
        """Start again what has died; returns what has died too often, which is left alone now."""
        given_up = []
        for service in list(self.services):
            if service.process is not None and service.process.poll() is not None:
                self._bury(service, service.process)
                if service.deaths >= DEATHS:
                    self.services.remove(service)
                    given_up.append(service)
            ended = service.ender is None or not service.ender.is_alive()
            if service.due is not None and ended and time.monotonic() >= service.due:
                self._spawn(service)
        return given_up

    def stop(self) -> None:
        """End everything, what died before as well."""
        for ender in self._enders:
            ender.join()
        end_all(self.root)

    def log(self, service: Service) -> Path:
        """Where its output goes."""
        return self.root / ".llm" / "logs" / f"{service.name.replace(' ', '-')}.log"

    def _spawn(self, service: Service) -> None:
        environment, fds = dict(service.environment), ()
        if service.listener is not None:
            service.listener.listen(BACKLOG)
            fds = (service.listener.fileno(),)
            environment[LISTEN_FD] = str(fds[0])
        with self.log(service).open("ab") as output:
            service.process = subprocess.Popen(
                [sys.executable, str(tied.__file__), *service.command],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=fds,
            )
        service.started, service.due = time.monotonic(), None
        alive = {each.name: each.process.pid for each in self.services if each.process is not None}
        # those started last need the others: they end first
        write_state(self.root, self.addresses, dict(reversed(alive.items())))

    def _bury(self, service: Service, process: subprocess.Popen[bytes]) -> None:
        """End what it started, which is still in its group, and say when it is started again."""
        lived_s = time.monotonic() - service.started
        service.deaths = 1 if lived_s >= STEADY_S else service.deaths + 1
        service.process = None
        service.ender = threading.Thread(
            target=end_group, args=[process.pid, SERVER_GRACE_S], daemon=True
        )
        service.ender.start()
        self._enders = [*(each for each in self._enders if each.is_alive()), service.ender]
        wait_s = 0 if service.deaths == 1 else 2 ** (service.deaths - 2)
        service.due = time.monotonic() + wait_s if service.deaths < DEATHS else None
        what = f"{service.name} {_how(process.returncode)} after {lived_s:.0f} s"
        if service.due is not None:
            logger.warning(
                "%s; starting it again in %d s; its log is %s", what, wait_s, self.log(service)
            )


def _how(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended (exit {code})"
