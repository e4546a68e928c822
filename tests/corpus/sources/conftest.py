"""What tests of sources share: limits, and a server that fails as told."""

from collections.abc import Iterator

import pytest

from llm.config.corpus import Limits
from tests.corpus.sources.server import Server
from tests.waiting import PATIENCE_S

LIMITS = Limits(max_documents=0, max_record_bytes=1_000_000, max_inflation=50)


@pytest.fixture
def limits() -> Limits:
    return LIMITS


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("LLM_HTTP_BACKOFF_S", "0.01")
    monkeypatch.setenv("LLM_HTTP_REQUESTS_PER_S", "0")
    monkeypatch.setenv("LLM_HTTP_RETRIES", "3")
    monkeypatch.setenv("LLM_HTTP_TIMEOUT_S", str(PATIENCE_S))
    running = Server()
    yield running
    running.shutdown()
    running.server_close()
