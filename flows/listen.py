"""Sockets that `make up` opens and its servers inherit.

A server that dies leaves its socket open: who connects meanwhile waits for the next one
instead of being refused, so that running flows see a slow server and not a missing one.
"""

import os
import socket
from typing import Any

import uvicorn

from llm.errors import ConfigError

LISTEN_FD = "LLM_LISTEN_FD"  # number of the inherited file descriptor
BACKLOG = 1024  # connections that wait while a server restarts
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def bind(name: str, host: str, port: int, variable: str) -> socket.socket:
    """The address taken, but nobody answered yet; ConfigError when it is not free or not ours."""
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


def url_of(host: str, port: int) -> str:
    """The address by which this machine reaches what listens on `host`."""
    host = WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: Any, **options: Any) -> None:
    """Answer on the inherited socket until SIGTERM."""
    listener = socket.socket(fileno=int(os.environ.pop(LISTEN_FD)))
    server = uvicorn.Server(uvicorn.Config(app, access_log=False, **options))
    server.run(sockets=[listener])
