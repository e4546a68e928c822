"""Preference pairs as JSONL, and as ids.

A row is `{"prompt": [messages], "chosen": text, "rejected": text, "source", "kind"}`.
UltraFeedback rows (`prompt` text; `chosen`, `rejected` message lists) and HH rows
(`chosen`, `rejected` transcripts of "\\n\\nHuman:" and "\\n\\nAssistant:") are read too.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm.errors import DataError
from llm.files import read_jsonl, write_jsonl
from llm.tokenizer.chat import Message, check_messages
from llm.tokenizer.load import Tokenizer

HH_TURN = re.compile(r"\n\n(Human|Assistant): ")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt, the first preferred."""

    prompt: list[Message]
    chosen: str
    rejected: str
    source: str
    kind: str

    @property
    def text(self) -> str:
        """All that is said in it, a line each."""
        return "\n".join([*(turn["content"] for turn in self.prompt), self.chosen, self.rejected])


@dataclass(frozen=True)
class EncodedPair:
    """Ids of prompt + answer, and where the answer starts in both."""

    chosen: list[int]
    rejected: list[int]
    prompt_length: int

    @property
    def length(self) -> int:
        return max(len(self.chosen), len(self.rejected))


def read_pairs(path: Path) -> list[Pair]:
    """The pairs of a JSONL file; DataError names file and pair of the first bad row."""
    pairs = []
    for number, row in enumerate(read_jsonl(path, ("chosen", "rejected")), start=1):
        try:
            pair = _parse(row, path.stem)
        except DataError as error:
            raise DataError(f"{path}: pair {number}: {error}") from None
        if pair.chosen == pair.rejected:
            raise DataError(f"{path}: pair {number}: chosen and rejected are the same text")
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{path} holds no pairs")
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> int:
    """Write one row per pair; returns their number."""
    return write_jsonl(path, (asdict(pair) for pair in pairs))


def encode_pairs(pairs: Iterable[Pair], tokenizer: Tokenizer, block_size: int) -> list[EncodedPair]:
    """Pairs as ids, each answer closed by its end token; those over `block_size` are left out."""
    encoded = []
    for pair in pairs:
        prompt = tokenizer.render_prompt(pair.prompt)
        answers = [
            [*prompt, *tokenizer.encode(text), tokenizer.end_id]
            for text in (pair.chosen, pair.rejected)
        ]
        item = EncodedPair(*answers, prompt_length=len(prompt))
        if item.length <= block_size:
            encoded.append(item)
    if not encoded:
        raise DataError(f"no preference pair fits model.block_size={block_size} tokens")
    return encoded


def _parse(row: dict[str, Any], source: str) -> Pair:
    """A row of any of the three forms."""
    chosen, rejected, prompt = row["chosen"], row["rejected"], row.get("prompt")
    if isinstance(chosen, list) and isinstance(rejected, list):  # UltraFeedback
        *prompt, best = _messages(chosen, "chosen")
        chosen, rejected = best["content"], _messages(rejected, "rejected")[-1]["content"]
    elif prompt is None and isinstance(chosen, str) and isinstance(rejected, str):  # HH
        (prompt, chosen), (_, rejected) = _transcript(chosen), _transcript(rejected)
    elif isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not (isinstance(chosen, str) and isinstance(rejected, str)):
        raise DataError("a pair needs `chosen` and `rejected` texts (or message lists, both)")
    turns = _messages(prompt, "prompt")
    check_messages(turns)
    if turns[-1]["role"] != "user":
        raise DataError("a pair's prompt ends with the user's message, before either answer")
    return Pair(turns, chosen, rejected, row.get("source", source), row.get("kind", "chat"))


def _messages(value: Any, field: str) -> list[Message]:
    """A non-empty list of messages; DataError names the field."""
    good = isinstance(value, list) and all(
        isinstance(turn, dict)
        and isinstance(turn.get("role"), str)
        and isinstance(turn.get("content"), str)
        for turn in value
    )
    if not good or not value:
        raise DataError(f"`{field}` must be a list of messages with `role` and `content`")
    return value


def _transcript(text: str) -> tuple[list[Message], str]:
    """The turns before the last, and the last turn's text."""
    parts = HH_TURN.split(text)[1:]
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    ]
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError("a transcript must end with an Assistant turn after a Human turn")
    return turns[:-1], turns[-1]["content"]
