"""Conversations as JSONL, and the exact check of an answer.

A row is `{"id", "kind", "source", "messages": [{"role", "content"}]}` and its last message
is the assistant's reference. Alpaca rows (`instruction`, `input`, `output`) and ShareGPT
rows (`conversations` of `from`, `value`) are read too.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm.errors import DataError
from llm.files import read_text, write_jsonl
from llm.tokenizer.chat import Message, check_messages

CHECKABLE_KINDS = frozenset({"import", "parameters", "default", "type", "summary"})
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
}


@dataclass(frozen=True)
class Conversation:
    """Turns that end with the assistant's reference answer."""

    id: str
    kind: str  # of a documentation question, or "chat"
    source: str
    messages: list[Message]

    @property
    def prompt(self) -> list[Message]:
        """All but the answer."""
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        """The answer."""
        return self.messages[-1]["content"]

    @property
    def text(self) -> str:
        """All that is said in it, a line each."""
        return "\n".join(message["content"] for message in self.messages)


def read_conversations(path: Path) -> list[Conversation]:
    """The conversations of a JSONL file; DataError names file and line of the first bad row."""
    conversations = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # JSON may hold U+2028
        if not line.strip():
            continue
        try:
            conversations.append(_parse(line, path.stem))
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not conversations:
        raise DataError(f"{path} holds no conversations")
    return conversations


def write_conversations(path: Path, conversations: Iterable[Conversation]) -> int:
    """Write one row per conversation; returns their number."""
    return write_jsonl(path, (asdict(conversation) for conversation in conversations))


def is_checkable(kind: str) -> bool:
    """Whether an answer of this kind is right or wrong, word for word."""
    return kind in CHECKABLE_KINDS


def is_correct(kind: str, reference: str, answer: str) -> bool:
    """Whether an answer is the reference; only runs of white space count as one space.

    The kind must be checkable: there is no right wording of a free answer.
    """
    assert is_checkable(kind), f"answers of kind {kind!r} cannot be checked"
    return reference.split() == answer.split()


def _parse(line: str, source: str) -> Conversation:
    """A row of any of the three forms."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON ({error.msg})") from None
    if not isinstance(row, dict):
        raise DataError(f"a row must be an object, not {type(row).__name__}")
    messages = _messages(row)
    check_messages(messages)
    if messages[-1]["role"] != "assistant":
        raise DataError("the last message must be the assistant's: it is the reference answer")
    digest = hashlib.sha1(json.dumps(messages, ensure_ascii=False).encode("utf-8", "replace"))
    return Conversation(
        id=_text(row, "id", digest.hexdigest()),
        kind=_text(row, "kind", "chat"),
        source=_text(row, "source", source),
        messages=messages,
    )


def _messages(row: dict[str, Any]) -> list[Message]:
    if "messages" in row:
        turns = _turns(row, "messages", "role", "content")
        return [{"role": role, "content": content} for role, content in turns]
    if "conversations" in row:
        turns = _turns(row, "conversations", "from", "value")
        return [{"role": SHAREGPT_ROLES.get(who, who), "content": value} for who, value in turns]
    if "instruction" in row and "output" in row:
        parts = [_text(row, "instruction"), _text(row, "input", "")]
        return [
            {"role": "user", "content": "\n\n".join(part for part in parts if part)},
            {"role": "assistant", "content": _text(row, "output")},
        ]
    raise DataError(
        "a row needs `messages`, `conversations` (ShareGPT) or `instruction` and `output` "
        f"(Alpaca); it has {', '.join(row) or 'nothing'}"
    )


def _turns(row: dict[str, Any], field: str, who: str, what: str) -> list[tuple[str, str]]:
    turns = row[field]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"`{field}` must be a list of objects with {who!r} and {what!r}")
    return [(_text(turn, who), _text(turn, what)) for turn in turns]


def _text(row: dict[str, Any], field: str, default: str | None = None) -> str:
    value = row.get(field, default)
    if not isinstance(value, str):
        raise DataError(f"field {field!r} must be text, got {value!r:.60}")
    return value
