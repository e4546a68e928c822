"""Reading, writing and checking conversations."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm.data.conversations import (
    Conversation,
    is_checkable,
    is_correct,
    read_conversations,
    write_conversations,
)
from llm.errors import DataError

MESSAGES = [{"role": "user", "content": "Two?\u2028"}, {"role": "assistant", "content": "Zwei"}]


def written(path: Path, *rows: Any) -> Path:
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


def test_what_is_written_is_read_back(tmp_path: Path):
    conversations = [Conversation("1", "import", "python:json#dumps", MESSAGES)]
    assert write_conversations(tmp_path / "c.jsonl", conversations) == 1
    assert read_conversations(tmp_path / "c.jsonl") == conversations
    assert conversations[0].reference == "Zwei"
    assert conversations[0].prompt == MESSAGES[:1]


def test_alpaca_and_sharegpt_rows_become_conversations(tmp_path: Path):
    alpaca = {"instruction": "Add.", "input": "1 2", "output": "3"}
    bare = {"instruction": "Add.", "input": "", "output": "3"}
    turns = [("system", "S"), ("human", "Q"), ("gpt", "A"), ("human", "Q"), ("gpt", "B")]
    sharegpt = {"id": "7", "conversations": [{"from": f, "value": v} for f, v in turns]}
    first, second, third = read_conversations(
        written(tmp_path / "set.jsonl", alpaca, bare, sharegpt)
    )
    assert (first.prompt[0]["content"], first.reference) == ("Add.\n\n1 2", "3")
    assert second.prompt[0]["content"] == "Add."
    assert [m["role"] for m in third.messages] == ["system", *["user", "assistant"] * 2]
    assert (first.kind, first.source, third.id) == ("chat", "set", "7")
    assert first.id != second.id


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([1], "must be an object, not list"),
        ({"text": "x"}, "it has text"),
        ({"messages": "x"}, "`messages` must be a list"),
        ({"messages": [{"role": "user"}]}, "field 'content' must be text, got None"),
        ({"messages": MESSAGES[:1]}, "last message must be the assistant's"),
        ({"messages": MESSAGES[1:]}, "user's is due"),
        ({"conversations": [{"from": "alien", "value": "x"}]}, "'alien' is unknown"),
        ({"instruction": "x", "output": 3}, "'output' must be text, got 3"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, row: Any, words: str):
    path = written(tmp_path / "set.jsonl", {"messages": MESSAGES}, row)
    with pytest.raises(DataError, match=r"set\.jsonl:3: ") as error:  # line 2 is blank
        read_conversations(path)
    assert words in str(error.value)


def test_a_line_that_is_not_json_and_an_empty_file_are_errors(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    path.write_text("{\n")
    with pytest.raises(DataError, match=r"set\.jsonl:1: not JSON"):
        read_conversations(path)
    path.write_text("\n")
    with pytest.raises(DataError, match="holds no conversations"):
        read_conversations(path)


def test_an_answer_is_correct_up_to_white_space_only():
    assert is_correct("type", "The type is int, optional", " The type  is int,\noptional ")
    for wrong in ("the type is int, optional", "The type is int, optional.", "int, optional", ""):
        assert not is_correct("type", "The type is int, optional", wrong)


def test_a_free_answer_is_never_graded():
    assert not is_checkable("chat")
    with pytest.raises(AssertionError):
        is_correct("chat", "a", "a")
