"""A server that is away for a while stops nothing; what it refuses is an error at once."""

import httpx
import pytest

from flows import children
from flows.children import patiently

REQUEST = httpx.Request("GET", "http://127.0.0.1/api")


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.HTTPStatusError("busy", request=REQUEST, response=httpx.Response(503)),
    ],
)
def test_an_answer_is_waited_for(error: httpx.HTTPError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "POLL_S", 0.01)
    answers = [error, error, "at last"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(ask) == "at last"


def test_a_refusal_is_not_asked_again() -> None:
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        raise httpx.HTTPStatusError("no", request=REQUEST, response=httpx.Response(409))

    with pytest.raises(httpx.HTTPStatusError):
        patiently(ask)
    assert asked == 1


def test_patience_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "POLL_S", 0.01)
    monkeypatch.setattr(children, "PATIENCE_S", 0.05)

    def ask() -> None:
        raise httpx.ConnectError("refused")

    with pytest.raises(httpx.ConnectError):
        patiently(ask)
