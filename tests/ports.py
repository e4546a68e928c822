"""Ports for servers that tests start."""

import fcntl
import random
import socket
import tempfile
from pathlib import Path
from typing import IO

PORTS = range(20_000, 32_000)  # from 32,768 on Linux gives them to clients, at any moment
LOCKS = Path(tempfile.gettempdir()) / "llm-test-ports"
_HELD: list[IO[str]] = []


def free_port() -> int:
    """A port that nobody listens on, and that no other process of tests gets before this one ends."""
    LOCKS.mkdir(exist_ok=True)
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        lock = (LOCKS / str(port)).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            lock.close()
            continue
        _HELD.append(lock)
        return port
    raise AssertionError(f"no port of {PORTS} is free")
