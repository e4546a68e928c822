"""A real server of the champion: OpenAI's answers and refusals, one at a time, whoever is champion."""

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import torch

from llm.config.sampling import SamplingConfig
from llm.errors import ConfigError
from llm.inference.engine import Engine
from llm.registry.versions import Version
from llm.registry.weights import model_folder
from llm.serve.champion import Champion
from llm.serve.queue import MAX_WAITING, RETRY_S
from llm.serve.server import MAX_BODY, make_app, read_access
from tests.conftest import ROOT
from tests.ports import free_port
from tests.serve.conftest import Versions
from tests.waiting import PATIENCE_S, wait_for

KEY = "a-key-for-the-model"
ASK: dict[str, Any] = {
    "model": "llm",
    "messages": [{"role": "user", "content": "What does Path read?"}],
    "temperature": 0,
    "max_tokens": 12,
}
# a connection that is used again may be one that the server is just closing
UNHURRIED: Any = {"timeout": PATIENCE_S, "limits": httpx.Limits(max_keepalive_connections=0)}


@pytest.fixture(scope="module")
def served(versions: Versions) -> Iterator[httpx.Client]:
    """A client of the server, which asks for a key."""
    port = free_port()
    environment = {
        **{key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"},
        "PYTHONPATH": str(ROOT),
        "LLM_SERVE_PORT": str(port),
        "LLM_API_KEY": KEY,
    }
    command = [sys.executable, "-m", "llm.serve.server"]
    with (versions.project / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=versions.project, env=environment, stderr=log)
    client = httpx.Client(
        base_url=f"http://127.0.0.1:{port}",
        headers={"Authorization": f"Bearer {KEY}"},
        **UNHURRIED,
    )
    try:
        wait_for(lambda: process.poll() is not None or _answers(client))
        assert process.poll() is None, (versions.project / "server.log").read_text()
        yield client
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        assert "Traceback" not in (versions.project / "server.log").read_text()


def test_the_champion_answers_as_its_engine_does(served: httpx.Client, versions: Versions) -> None:
    answer = served.post("/v1/chat/completions", json=ASK).json()
    text, tokens = _expected(versions, versions.registry.find("1", "llm"))
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": text}
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "llm/1"
    assert answer["usage"]["completion_tokens"] == tokens
    assert answer["choices"][0]["finish_reason"] == ("length" if tokens == 12 else "stop")
    assert not versions.sprung.exists(), "something of the registry was unpickled or imported"


@pytest.mark.gpu
def test_where_there_is_a_gpu_the_champion_answers_from_it(
    served: httpx.Client, versions: Versions, gpu: torch.device
) -> None:
    assert f" on {gpu}\n" in (versions.project / "server.log").read_text()
    answer = served.post("/v1/chat/completions", json=ASK).json()
    text, _ = _expected(versions, versions.registry.find("1", "llm"))
    assert answer["choices"][0]["message"]["content"] == text


def test_openai_s_own_client_gets_the_same_text_whole_and_in_a_stream(
    served: httpx.Client, versions: Versions
) -> None:
    client = openai.OpenAI(
        base_url=f"{served.base_url}/v1",
        api_key=KEY,
        max_retries=0,
        default_headers={"Connection": "close"},
    )
    assert [model.id for model in client.models.list()] == ["llm"]
    assert client.models.retrieve("llm@champion").id == "llm"
    asked: Any = {**ASK, "temperature": 1.0, "seed": 7}
    whole = client.chat.completions.create(**asked)
    events = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    pieces = [event.choices[0].delta.content or "" for event in events if event.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len(pieces) > 4
    assert events[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert events[-1].usage == whole.usage
    stop = whole.choices[0].message.content[3:5]
    stopped = client.chat.completions.create(**asked, stop=[stop])
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.choices[0].message.content == whole.choices[0].message.content.partition(stop)[0]


@pytest.mark.parametrize(
    ("changes", "status", "part"),
    [
        ({"model": "gpt-4o"}, 404, "'gpt-4o' is not served here; llm is"),
        ({"messages": []}, 422, "messages"),
        ({"messages": [{"role": "robot", "content": "?"}]}, 422, "messages.0.role"),
        ({"messages": [{"role": "assistant", "content": "?"}]}, 400, "user"),
        ({"messages": [{"role": "user", "content": "word " * 200}]}, 400, "shorten the messages"),
        ({"max_tokens": 64}, 400, "lower max_tokens"),
        ({"max_tokens": 0}, 422, "max_tokens"),
        ({"temperature": 3}, 422, "temperature"),
        ({"stop": ["a"] * 5}, 422, "stop"),
        ({"tools": []}, 422, "tools: not supported here"),
        ({"n": 2}, 422, "n:"),
    ],
)
def test_a_bad_request_is_one_error_in_openai_s_form(
    served: httpx.Client, changes: dict[str, Any], status: int, part: str
) -> None:
    for stream in (False, True):
        response = served.post("/v1/chat/completions", json={**ASK, **changes, "stream": stream})
        assert response.status_code == status
        assert part in response.json()["error"]["message"]
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_no_json_no_route_and_too_much_are_errors_of_the_same_form(served: httpx.Client) -> None:
    answers = {
        400: served.post("/v1/chat/completions", content=b"{"),
        404: served.get("/v1/no-such-thing"),
        405: served.get("/v1/chat/completions"),
        413: served.post("/v1/chat/completions", content=b" " * (MAX_BODY + 1)),
    }
    for status, response in answers.items():
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_without_the_key_only_the_health_is_told(served: httpx.Client) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {KEY}"}):
        with httpx.Client(base_url=served.base_url, headers=headers, **UNHURRIED) as client:
            for response in (
                client.get("/v1/models"),
                client.post("/v1/chat/completions", json=ASK),
            ):
                assert response.status_code == 401
                assert response.json()["error"]["code"] == "invalid_api_key"
            assert client.get("/health").json() == {"status": "ok", "model": "llm", "version": "1"}


def test_a_burst_is_answered_or_told_to_come_again_and_always_the_same(
    served: httpx.Client,
) -> None:
    expected = served.post("/v1/chat/completions", json=ASK).json()["choices"]
    count = 2 * MAX_WAITING
    with (
        httpx.Client(base_url=served.base_url, headers=served.headers, **UNHURRIED) as client,
        concurrent.futures.ThreadPoolExecutor(count) as pool,
    ):
        answers = list(
            pool.map(lambda _: client.post("/v1/chat/completions", json=ASK), range(count))
        )
    statuses = {answer.status_code for answer in answers}
    assert 200 in statuses <= {200, 429}
    assert all(a.json()["choices"] == expected for a in answers if a.status_code == 200)


def test_who_comes_when_too_many_wait_is_told_to_come_again(
    versions: Versions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many at once, while no answer is written."""
    champion = Champion(versions.registry, "llm")
    tokens, write = champion.served.engine.tokens, threading.Event()

    def held_tokens(*args: Any) -> Any:
        write.wait(PATIENCE_S)
        return tokens(*args)

    monkeypatch.setattr(champion.served.engine, "tokens", held_tokens)

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(make_app(champion, ""))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            posts = [client.post("/v1/chat/completions", json=ASK) for _ in range(MAX_WAITING + 1)]
            answers = asyncio.as_completed(posts)
            refused = await next(answers)
            write.set()
            return [refused, *[await answer for answer in answers]]

    refused, *others = asyncio.run(ask())
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == str(RETRY_S)
    assert [answer.status_code for answer in others] == [200] * MAX_WAITING


def test_who_leaves_a_stream_keeps_nobody_waiting(served: httpx.Client) -> None:
    for _ in range(MAX_WAITING + 1):
        with served.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as stream:
            next(stream.iter_lines())
    assert served.post("/v1/chat/completions", json=ASK).status_code == 200


def test_the_alias_is_followed_without_a_lost_request(
    served: httpx.Client, versions: Versions
) -> None:
    second = versions.registry.find("2", "llm")
    seen: list[tuple[str, str]] = []

    def ask() -> bool:
        answer = served.post("/v1/chat/completions", json=ASK)
        assert answer.status_code == 200
        seen.append((answer.json()["model"], answer.json()["choices"][0]["message"]["content"]))
        return seen[-1][0] == "llm/2"

    assert not ask()
    versions.crown(second)
    wait_for(ask)
    texts = {
        f"llm/{number}": _expected(versions, versions.registry.find(number, "llm"))[0]
        for number in "12"
    }
    assert texts["llm/1"] != texts["llm/2"]
    assert all(text == texts[model] for model, text in seen)


def test_a_champion_that_cannot_be_loaded_leaves_the_former_one_serving(
    served: httpx.Client, versions: Versions
) -> None:
    health = {"status": "ok", "model": "llm", "version": "1"}
    broken = versions.add(3)
    weights = model_folder(versions.registry, broken) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    versions.crown(broken)
    wait_for(lambda: "problem" in served.get("/health").json())
    assert served.get("/health").json()["version"] == "2"
    assert served.post("/v1/chat/completions", json=ASK).json()["model"] == "llm/2"
    versions.crown(versions.registry.find("1", "llm"))
    wait_for(lambda: served.get("/health").json() == health)


def test_where_others_can_ask_there_is_a_key() -> None:
    with pytest.raises(ConfigError, match=r"LLM_HOST='0\.0\.0\.0' .* set LLM_API_KEY"):
        read_access({"LLM_HOST": "0.0.0.0"})
    assert read_access({"LLM_HOST": "0.0.0.0", "LLM_PASSWORD": "p"}) == ("0.0.0.0", "p")
    assert read_access({"LLM_HOST": "", "LLM_API_KEY": "k"}) == ("127.0.0.1", "k")


def test_without_a_champion_there_is_nothing_to_serve(versions: Versions) -> None:
    with pytest.raises(ConfigError, match="no version 'champion' of other"):
        Champion(versions.registry, "other")


def _expected(versions: Versions, version: Version) -> tuple[str, int]:
    """The engine's own answer, and how many tokens it has."""
    engine = Engine.load(model_folder(versions.registry, version), device="cpu")
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=12)
    prompt = engine.tokenizer.render_prompt(ASK["messages"])
    (ids,) = engine.generate([prompt], sampling, 0, engine.tokenizer.stop_ids)
    return engine.tokenizer.decode(ids), len(ids)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
