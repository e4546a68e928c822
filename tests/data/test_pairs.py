import json
from pathlib import Path

import pytest

from llm.data.pairs import Pair, encode_pairs, read_pairs, write_pairs
from llm.errors import DataError
from llm.tokenizer.load import Tokenizer

PROMPT = [{"role": "user", "content": "Which?"}]
PAIR = Pair(PROMPT, "this", "that", "test", "import")


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_written_pairs_read_back(tmp_path: Path) -> None:
    assert write_pairs(tmp_path / "p.jsonl", [PAIR]) == 1
    assert read_pairs(tmp_path / "p.jsonl") == [PAIR]


def test_ultrafeedback_and_hh_rows_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    other = [turns[0], {"role": "assistant", "content": "Go away"}]
    hh = "\n\nHuman: Hi\n\nAssistant: "
    rows = [
        {"prompt": "Hi", "chosen": turns, "rejected": other},
        {"chosen": hh + "Hello", "rejected": hh + "Go away"},
    ]
    for pair in read_pairs(write(tmp_path / "p.jsonl", *rows)):
        assert pair == Pair([turns[0]], "Hello", "Go away", "p", "chat")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "x", "chosen": "a"}, "no field 'rejected'"),
        ({"prompt": "x", "chosen": "a", "rejected": "a"}, "same text"),
        ({"prompt": "x", "chosen": 1, "rejected": "a"}, "a pair needs"),
        ({"chosen": [], "rejected": []}, "`chosen` must be a list of messages"),
        ({"chosen": ["a"], "rejected": ["b"]}, "`chosen` must be a list of messages"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, "`prompt` must be a list"),
        (
            {
                "prompt": [*PROMPT, {"role": "assistant", "content": "x"}],
                "chosen": "a",
                "rejected": "b",
            },
            "ends with the user's message",
        ),
        ({"chosen": "no turns", "rejected": "a"}, "must end with an Assistant turn"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write(tmp_path / "p.jsonl", row))


def test_an_encoded_pair_shares_its_prompt_and_closes_both_answers(tokenizer: Tokenizer) -> None:
    [item] = encode_pairs([PAIR], tokenizer, 64)
    prompt = tokenizer.render_prompt(PROMPT)
    assert item.prompt_length == len(prompt)
    assert item.chosen == [*prompt, *tokenizer.encode("this"), tokenizer.end_id]
    assert item.rejected == [*prompt, *tokenizer.encode("that"), tokenizer.end_id]
    with pytest.raises(DataError, match="no preference pair fits"):
        encode_pairs([PAIR], tokenizer, 5)
