"""OpenAI's chat completions as types: what may be asked, and how it is answered or refused.

What we do not do is refused, never ignored: an answer that is not what was asked for would
look like one.
"""

import time
import uuid
from http import HTTPStatus
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from llm.tokenizer.chat import Message

Stop = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Zero = Annotated[float, Field(ge=0, le=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]
    name: str | None = None

    def plain(self) -> Message:
        """As our tokenizer wants it."""
        parts = self.content
        text = parts if isinstance(parts, str) else "".join(part.text for part in parts)
        return {"role": self.role, "content": text}


class _StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class ChatRequest(BaseModel):
    """POST /v1/chat/completions; the defaults are OpenAI's."""

    model_config = ConfigDict(extra="forbid")

    model: str
    messages: list[_Message] = Field(min_length=1)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: PositiveInt | None = None  # what is left of the block, by default
    max_completion_tokens: PositiveInt | None = None  # its newer name
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: NonNegativeInt | None = None  # drawn at random, by default
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = None
    frequency_penalty: Zero | None = None
    presence_penalty: Zero | None = None
    user: str | None = None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def conversation(self) -> list[Message]:
        return [message.plain() for message in self.messages]


class ApiError(Exception):
    """A request that is refused, in OpenAI's form."""

    def __init__(
        self,
        status: HTTPStatus,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers

    @property
    def content(self) -> dict[str, Any]:
        """The body of the answer."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.message,
                "type": kind,
                "param": self.param,
                "code": self.code,
            }
        }


def parse_request(body: bytes) -> ChatRequest:
    """The request; ApiError 400 when it is no JSON, 422 when a value is not as it must be."""
    try:
        return ChatRequest.model_validate_json(body)
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        if item["type"] == "json_invalid":
            raise ApiError(HTTPStatus.BAD_REQUEST, f"the body is not JSON: {item['msg']}") from None
        param = ".".join(str(part) for part in item["loc"])
        what = "not supported here" if item["type"] == "extra_forbidden" else item["msg"]
        message = f"{param}: {what}" if param else what
        raise ApiError(HTTPStatus.UNPROCESSABLE_ENTITY, message, param=param or None) from None


class Answer:
    """The objects of one answer, whole or in chunks: they share an id."""

    def __init__(self, model: str) -> None:
        self.head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }

    def whole(self, text: str, finish_reason: str, usage: dict[str, int]) -> dict[str, Any]:
        """A `chat.completion`."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason}
        return {**self.head, "object": "chat.completion", "choices": [choice], "usage": usage}

    def chunk(self, delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        """A `chat.completion.chunk`."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self.head, "object": "chat.completion.chunk", "choices": [choice]}

    def last(self, usage: dict[str, int]) -> dict[str, Any]:
        """The chunk that says how long everything was."""
        return {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """How long the prompt and the answer are."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
