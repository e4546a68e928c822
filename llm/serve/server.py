"""The champion behind OpenAI's API: POST /v1/chat/completions, GET /v1/models, GET /health.

    python -m llm.serve.server

serves `models:/NAME@champion` (NAME is params.yaml's register.name) on LLM_HOST and
LLM_SERVE_PORT, and follows the alias. With LLM_API_KEY or LLM_PASSWORD set, `/v1` asks
for it as bearer token. Answers are written one at a time; who comes when too many wait
already is told to come again.
"""

import asyncio
import hmac
import json
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from llm.config.base import load_section
from llm.config.params import PARAMS
from llm.config.registry import RegisterConfig
from llm.config.sampling import SamplingConfig
from llm.errors import ConfigError, DataError, LLMError
from llm.listening import LOOPBACK, bind, inherited, is_loopback, serve
from llm.registry.versions import Registry, tracking_uri_of
from llm.serve.champion import Champion, Served
from llm.serve.generation import Generation
from llm.serve.protocol import Answer, ApiError, ChatRequest, parse_request, usage
from llm.serve.queue import Queue
from llm.tied import tie_to_parent

WORK = Path(".llm")
FOLLOW_S = 2.0  # between two looks at the alias
MAX_BODY = 1_000_000  # bytes
FAILED = ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, "the model server failed; see its log")

logger = logging.getLogger(__name__)


def make_app(champion: Champion, api_key: str) -> FastAPI:
    """The API over what `champion` holds; an empty key asks for none."""
    queue = Queue()
    started = int(time.time())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower = asyncio.create_task(_follow(champion))
        yield
        follower.cancel()
        with suppress(asyncio.CancelledError):
            await follower

    app = FastAPI(title="llm", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        state = {"status": "ok", "model": champion.name, "version": champion.served.version.number}
        return state | ({"problem": champion.problem} if champion.problem else {})

    @app.get("/v1/models")
    async def models(request: Request) -> dict[str, Any]:
        _check_key(request, api_key)
        return {"object": "list", "data": [_model_object(champion.served, started)]}

    @app.get("/v1/models/{name:path}")
    async def model(request: Request, name: str) -> dict[str, Any]:
        _check_key(request, api_key)
        return _model_object(_served(champion, name), started)

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Any:
        _check_key(request, api_key)
        asked = parse_request(await _body(request))
        served = _served(champion, asked.model)
        generation = _generation(served, asked)
        if not asked.stream:
            return await _whole(queue, request, served, generation)
        events = _events(queue, served, generation, asked)
        first = await anext(events)  # so that being refused is a status, not an event
        return StreamingResponse(_from(first, events), media_type="text/event-stream")

    _add_error_handlers(app)
    return app


def main() -> None:
    """Load the champion, then serve; exits 1 with one line when either is not possible."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tie_to_parent()
    try:
        host, api_key = read_access(os.environ)
        name = load_section(RegisterConfig, "register", PARAMS).name
        champion = Champion(Registry(tracking_uri_of(WORK)), name)
        app = make_app(champion, api_key)
        port = int(os.environ.get("LLM_SERVE_PORT") or 8000)
        serve(app, inherited() or bind("model server", host, port, "LLM_SERVE_PORT"))
    except LLMError as error:
        logger.error("error: %s", error)
        sys.exit(1)


def read_access(environment: Mapping[str, str]) -> tuple[str, str]:
    """Where to listen and which key to ask for; ConfigError for an open door."""
    host = environment.get("LLM_HOST") or LOOPBACK
    api_key = environment.get("LLM_API_KEY") or environment.get("LLM_PASSWORD", "")
    if not is_loopback(host) and not api_key:
        raise ConfigError(
            f"LLM_HOST={host!r} lets other machines reach the model; set LLM_API_KEY, which "
            "it then asks for, or unset LLM_HOST"
        )
    return host, api_key


async def _follow(champion: Champion) -> None:
    while True:
        await asyncio.sleep(FOLLOW_S)
        await asyncio.to_thread(champion.follow)


def _generation(served: Served, asked: ChatRequest) -> Generation:
    """What is to be written; ApiError 400 for a conversation that cannot be answered."""
    engine = served.engine
    try:
        prompt = engine.tokenizer.render_prompt(asked.conversation)
    except DataError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, str(error), param="messages") from None
    room = engine.block_size - len(prompt)
    wanted = asked.max_completion_tokens or asked.max_tokens or max(room, 1)
    if wanted > room:
        raise ApiError(
            HTTPStatus.BAD_REQUEST,
            f"{len(prompt)} tokens of messages and {wanted} of the answer are more than the "
            f"model's {engine.block_size}; shorten the messages or lower max_tokens",
            code="context_length_exceeded",
            param="messages",
        )
    sampling = SamplingConfig(
        temperature=1.0 if asked.temperature is None else asked.temperature,
        top_k=0,
        top_p=1.0 if asked.top_p is None else asked.top_p,
        max_new_tokens=wanted,
    )
    seed = secrets.randbits(32) if asked.seed is None else asked.seed
    return Generation(engine, prompt, sampling, seed, asked.stops)


async def _whole(queue: Queue, request: Request, served: Served, generation: Generation) -> Any:
    """The answer at once; given up when nobody waits for it any more."""
    pieces: list[str] = []
    async with queue.turn():
        async for piece in _pieces(queue, generation):
            pieces.append(piece)
            if await request.is_disconnected():
                raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "the client is gone")
    used = usage(len(generation.prompt), generation.tokens)
    return Answer(served.name).whole("".join(pieces), generation.finish_reason, used)


async def _events(
    queue: Queue, served: Served, generation: Generation, asked: ChatRequest
) -> AsyncGenerator[str]:
    """The answer as server-sent events; what fails in the middle is one, too."""
    answer = Answer(served.name)
    async with queue.turn():
        yield _event(answer.chunk({"role": "assistant", "content": ""}))
        try:
            async for piece in _pieces(queue, generation):
                yield _event(answer.chunk({"content": piece}))
        except Exception as error:
            logger.error("in the middle of a stream", exc_info=error)
            yield _event(FAILED.content)
            return
    yield _event(answer.chunk({}, generation.finish_reason))
    if asked.stream_options and asked.stream_options.include_usage:
        yield _event(answer.last(usage(len(generation.prompt), generation.tokens)))
    yield "data: [DONE]\n\n"


async def _pieces(queue: Queue, generation: Generation) -> AsyncIterator[str]:
    """The pieces, each made in the one thread that generates."""
    pieces = generation.pieces()
    loop = asyncio.get_running_loop()
    while (piece := await loop.run_in_executor(queue.worker, next, pieces, None)) is not None:
        yield piece


async def _from(first: str, events: AsyncGenerator[str]) -> AsyncIterator[str]:
    async with aclosing(events):  # who leaves in the middle frees the turn
        yield first
        async for event in events:
            yield event


async def _body(request: Request) -> bytes:
    """The request's body; ApiError 413 as soon as it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise ApiError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {MAX_BODY} bytes"
            )
    return body


def _served(champion: Champion, name: str) -> Served:
    served = champion.served
    if not served.goes_by(name):
        raise ApiError(
            HTTPStatus.NOT_FOUND,
            f"the model {name!r} is not served here; {champion.name} is",
            code="model_not_found",
            param="model",
        )
    return served


def _check_key(request: Request, api_key: str) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    right = scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), api_key.encode())
    if api_key and not right:
        raise ApiError(
            HTTPStatus.UNAUTHORIZED,
            "send `Authorization: Bearer LLM_API_KEY`",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _model_object(served: Served, created: int) -> dict[str, Any]:
    return {
        "id": served.version.name,
        "object": "model",
        "created": created,
        "owned_by": "llm-factory",
        "version": served.version.number,
    }


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def _add_error_handlers(app: FastAPI) -> None:
    """Every refusal in OpenAI's form, those of the framework as well."""

    @app.exception_handler(ApiError)
    async def refuse(request: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.content, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}"
        return JSONResponse(
            ApiError(HTTPStatus(error.status_code), message).content, error.status_code
        )

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s", request.method, request.url.path, exc_info=error)
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        return JSONResponse(
            ApiError(status, "the model server failed; see its log").content, status
        )


if __name__ == "__main__":
    main()
