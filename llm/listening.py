"""Sockets: taken before a server starts, inherited by it, and kept open while it is started again.

Who connects while nobody answers waits instead of being refused, so that running work sees
a slow server and not a missing one.
"""

import ipaddress
import os
import socket
from typing import Any

import uvicorn

from llm.errors import ConfigError

LOOPBACK = "127.0.0.1"
LISTEN_FD = "LLM_LISTEN_FD"  # environment variable: number of the inherited file descriptor
BACKLOG = 1024  # connections that wait while a server restarts
STOP_S = 5  # what a server that is told to stop gives to requests in progress
WILDCARDS = {"0.0.0.0": LOOPBACK, "::": "::1"}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(host: str, port: int) -> str:
    """The address by which this machine reaches what listens on `host`."""
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bind(name: str, host: str, port: int, variable: str) -> socket.socket:
    """The address taken, but nobody listens yet; ConfigError when it is not free or not ours."""
    listener = None
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except socket.gaierror as error:
        raise ConfigError(f"LLM_HOST={host!r} is no address ({error.strerror})") from None
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigError(
            f"{name}: port {port} of {host} is not free ({error.strerror}); "
            f"set {variable} to another one"
        ) from None
    return listener


def inherited() -> socket.socket | None:
    """The socket that whoever started this process has opened for it."""
    number = os.environ.pop(LISTEN_FD, "")  # not for our own children
    return socket.socket(fileno=int(number)) if number else None


def serve(app: Any, listener: socket.socket | None) -> None:
    """Answer on the socket until SIGTERM."""
    assert listener is not None, f"{LISTEN_FD} is not set; `make up` sets it"
    config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=STOP_S)
    uvicorn.Server(config).run(sockets=[listener])
