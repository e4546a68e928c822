"""Reading over http: guarded, polite, and complete or an error."""

import io
import time

import pytest

from llm.corpus.sources.http import GoneError, HttpFile, RefusedError, check_address
from llm.errors import ConfigError, DataError
from tests.corpus.sources.server import ALLOWED, Server

DATA = bytes(range(256)) * 4000


def read(server: Server, path: str = "file", start: int = 0, allowed: list[str] = ALLOWED) -> bytes:
    with io.BufferedReader(HttpFile(server.url(path), allowed, start)) as file:
        return file.read()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",  # cloud metadata
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ],
)
def test_no_address_of_a_private_network_is_read(address: str):
    with pytest.raises(RefusedError):
        check_address(address, [])
    check_address("93.184.216.34", [])
    check_address("2606:2800:220:1:248:1893:25c8:1946", [])


def test_a_private_host_is_refused_before_anything_is_sent(server: Server):
    server.files["file"] = DATA
    with pytest.raises(DataError, match=r"127\.0\.0\.1 is not a public .* allow_private"):
        read(server, allowed=[])
    assert server.requests == []
    assert read(server) == DATA


def test_a_name_that_means_a_private_address_is_refused(server: Server):
    server.files["file"] = DATA
    url = server.url("file").replace("127.0.0.1", "localhost")
    with pytest.raises(DataError, match="is not a public address"):
        HttpFile(url, []).read(1)
    assert server.requests == []


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "localhost.localdomain"])
def test_a_redirect_to_a_private_host_is_refused(server: Server, host: str):
    server.redirects["file"] = server.url("secret").replace("127.0.0.1", host)
    server.files["secret"] = b"secret"
    try:
        with pytest.raises(DataError):
            read(server)
    finally:
        assert [path for path, _ in server.requests if path == "secret"] == []


def test_a_redirect_to_an_allowed_host_is_followed(server: Server):
    server.redirects["file"] = "/other"
    server.files["other"] = DATA
    assert read(server) == DATA


def test_endless_redirects_end(server: Server):
    server.redirects["file"] = "/file"
    with pytest.raises(DataError, match="can't be read"):
        read(server)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_connection_is_taken_up_where_it_broke(server: Server, ranges: bool):
    server.files["file"] = DATA
    server.ranges = ranges
    server.faults.extend(["cut", 503, "cut" if ranges else 429])
    assert read(server) == DATA
    assert server.requests[1] == ("file", f"bytes={len(DATA) // 2}-")


@pytest.mark.parametrize("start", [1, 1000, len(DATA)])
def test_reading_begins_where_it_is_told(server: Server, start: int):
    server.files["file"] = DATA
    assert read(server, start=start) == DATA[start:]


def test_what_is_gone_is_not_asked_for_again(server: Server):
    with pytest.raises(GoneError, match="404"):
        read(server)
    assert len(server.requests) == 1


def test_a_server_that_stays_broken_is_one_error(server: Server):
    server.faults.extend([503] * 10)
    with pytest.raises(DataError, match=r"status 503\) after 3 retries; run it again later"):
        read(server)
    assert len(server.requests) == 4


def test_requests_keep_their_distance(server: Server, monkeypatch: pytest.MonkeyPatch):
    server.files["file"] = b"x"
    monkeypatch.setenv("LLM_HTTP_REQUESTS_PER_S", "10")
    started = time.monotonic()
    for _ in range(4):
        read(server)
    assert time.monotonic() - started > 0.3


def test_a_setting_that_is_no_number_is_one_error(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LLM_HTTP_RETRIES", "many")
    server.faults.append(503)
    with pytest.raises(ConfigError, match="LLM_HTTP_RETRIES='many' must be a number"):
        read(server)
