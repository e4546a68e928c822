"""Files over http(s): public addresses only, politely, and taken up where a connection broke.

What the settings do is in README: LLM_HTTP_REQUESTS_PER_S, LLM_HTTP_RETRIES,
LLM_HTTP_TIMEOUT_S, LLM_HTTP_BACKOFF_S. They change how long it takes, never what is read.
"""

import io
import ipaddress
import logging
import os
import random
import socket
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from llm.errors import ConfigError, DataError

USER_AGENT = "llm-factory (corpus)"
RETRIES = urllib3.Retry(
    5, connect=0, read=0, status=0, other=0, respect_retry_after_header=False
)  # redirects only: we retry, because only we know how far we have read
LONGEST_PAUSE_S = 300.0
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

logger = logging.getLogger(__name__)


class GoneError(Exception):
    """The server says that there is no such file, or none for us: asking again is of no use."""


class RefusedError(Exception):
    """The address is not a public one."""


def setting(name: str, default: float) -> float:
    """A number from the environment that changes no result."""
    given = os.environ.get(name, "")
    try:
        value = float(given or default)
    except ValueError:
        value = -1.0
    if value < 0:
        raise ConfigError(f"{name}={given!r} must be a number, 0 or more")
    return value


def check_address(address: str, allowed: Sequence[str]) -> None:
    """RefusedError unless the IP address is public, or in a network that is allowed.

    `is_global` is False for loopback, link-local (cloud metadata), private and reserved
    networks; IPv6 forms that carry an IPv4 address are judged by that.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip.sixtofour or ip
    if any(ip in ipaddress.ip_network(network) for network in allowed):
        return
    translated = ip in ipaddress.ip_network("64:ff9b::/96")
    if not ip.is_global or ip.is_multicast or translated:
        raise RefusedError(f"{address} is not a public address")


def _connect(connection: HTTPConnection, allowed: Sequence[str]) -> socket.socket:
    """A socket to the connection's host, which is resolved once and judged before it is reached."""
    host = connection.host.strip("[]")
    found = socket.getaddrinfo(host, connection.port, 0, socket.SOCK_STREAM)
    for *_, address in found:
        check_address(str(address[0]), allowed)
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(connection.timeout)
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
        except OSError as error:
            sock.close()
            failure = error
    raise urllib3.exceptions.NewConnectionError(connection, f"{host}: {failure}")


class _GuardedHTTP(HTTPConnection):
    def __init__(self, *args: Any, allowed: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._allowed = allowed

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._allowed)


class _GuardedHTTPS(HTTPSConnection):
    def __init__(self, *args: Any, allowed: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._allowed = allowed

    def _new_conn(self) -> socket.socket:
        return _connect(self, self._allowed)


def _pools(allowed: Sequence[str]) -> urllib3.PoolManager:
    """A manager whose every connection, redirected ones included, is guarded; proxies are not used."""

    class Plain(HTTPConnectionPool):
        ConnectionCls = partial(_GuardedHTTP, allowed=allowed)  # pyright: ignore[reportAssignmentType]

    class Secure(HTTPSConnectionPool):
        ConnectionCls = partial(_GuardedHTTPS, allowed=allowed)  # pyright: ignore[reportAssignmentType]

    pools = urllib3.PoolManager(headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"})
    pools.pool_classes_by_scheme = {"http": Plain, "https": Secure}
    return pools


class HttpFile(io.RawIOBase):
    """The bytes of a url from `start` on.

    GoneError when the server refuses it for good; DataError when it can't be reached after
    all retries, or has changed while it was read, or its address is not allowed.
    """

    _last_request = 0.0  # of this process

    def __init__(self, url: str, allowed: Sequence[str], start: int = 0, sharers: int = 1) -> None:
        self._url = url
        self._position = start
        self._sharers = sharers  # processes that read from the server at the same time
        self._pools = _pools(allowed)
        self._response: urllib3.BaseHTTPResponse | None = None
        self._etag: str | None = None
        self._failures = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size: int = -1, /) -> bytes:
        """Up to `size` bytes, retried until there are some or the file ends."""
        while True:
            try:
                response = self._response or self._request()
                data = response.read(size if size > 0 else None)
                self._position += len(data)
                self._failures = 0 if data else self._failures
                return data
            except (urllib3.exceptions.HTTPError, OSError) as error:
                self._drop()
                self._pause(_reason(error), None)

    def close(self) -> None:
        self._drop()
        self._pools.clear()
        super().close()

    def _request(self) -> urllib3.BaseHTTPResponse:
        """An open response whose next byte is the one at our position."""
        while True:
            self._wait_for_turn()
            headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
            if self._position:
                headers |= {"Range": f"bytes={self._position}-"}
                headers |= {"If-Range": self._etag} if self._etag else {}
            try:
                response = self._pools.request(
                    "GET",
                    self._url,
                    headers=headers,
                    preload_content=False,
                    decode_content=False,
                    timeout=setting("LLM_HTTP_TIMEOUT_S", 60),
                    retries=RETRIES,
                )
            except RefusedError as error:
                raise DataError(
                    f"gather.sources: {self._url} is refused: {error}; if it is meant, name its "
                    "network in the source's allow_private"
                ) from None
            if response.status in AGAIN:
                after = response.headers.get("Retry-After")
                response.release_conn()
                self._pause(f"status {response.status}", after)
                continue
            self._response = self._at_position(response)
            return self._response

    def _at_position(self, response: urllib3.BaseHTTPResponse) -> urllib3.BaseHTTPResponse:
        """The response, once what was read before is behind it."""
        if response.status == 416:  # nothing beyond our position: it ended there
            response.release_conn()
            return urllib3.HTTPResponse(io.BytesIO(), preload_content=False)
        if response.status not in (200, 206):
            response.release_conn()
            raise GoneError(f"status {response.status}")
        etag = response.headers.get("ETag")
        if self._etag and etag and etag != self._etag:
            raise DataError(
                f"gather.sources: {self._url} changed while it was read; run it again from the "
                "start: remove the folder of gather's work in progress"
            )
        self._etag = None if etag is None or etag.startswith("W/") else etag
        if response.status == 200:  # the server knows no ranges
            left = self._position
            while left and (data := response.read(min(left, 1 << 20))):
                left -= len(data)
        return response

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _pause(self, why: str, after: str | None) -> None:
        """Wait longer with every failure in a row; DataError after the last."""
        self._failures += 1
        retries = int(setting("LLM_HTTP_RETRIES", 6))
        if self._failures > retries:
            raise DataError(
                f"gather.sources: {self._url} can't be read ({why}) after {retries} retries; run "
                "it again later: it goes on from where it stopped"
            )
        pause = setting("LLM_HTTP_BACKOFF_S", 1) * 2 ** (self._failures - 1)
        pause = max(pause * random.uniform(0.75, 1.25), _seconds(after))
        logger.info("%s: %s; again in %.1f s", self._url, why, min(pause, LONGEST_PAUSE_S))
        time.sleep(min(pause, LONGEST_PAUSE_S))

    def _wait_for_turn(self) -> None:
        rate = setting("LLM_HTTP_REQUESTS_PER_S", 2)
        if rate:
            turn = HttpFile._last_request + self._sharers / rate
            time.sleep(max(0.0, turn - time.monotonic()))
        HttpFile._last_request = time.monotonic()


def _seconds(after: str | None) -> float:
    """A Retry-After header: seconds, or a date."""
    if not after:
        return 0.0
    try:
        return max(0.0, float(after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return 0.0


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
