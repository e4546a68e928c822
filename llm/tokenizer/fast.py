"""Many texts to ids by tiktoken: the ids that `tokenizers` gives, several times as fast.

tiktoken joins any two neighbours whose bytes together are a token, the earliest token
first; BPE joins the pairs that it has learnt. Both give the same ids for every text when
each token's own bytes, joined by what was learnt before it, end as the pair that it was
learnt as. For what becomes a token in some text has had nothing joined across its ends, so
the joins in it were those of its bytes alone, and no other pair can stand there.

A tokenizer of which that is not true, or that is more than BPE on bytes in words that both
engines cut alike, is left to `tokenizers`. So is a text with more white space in a row than
tiktoken's expressions have room for.
"""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import tiktoken

from llm.tokenizer.bpe import SPELLING, Bpe, spelt_bytes
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import split_pattern

GPT2_PATTERN = (
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of ByteLevel
)
LONGEST_SPACE = 100_000  # characters; a million is too much
_LONG_SPACE = re.compile(rf"\s{{{LONGEST_SPACE}}}")


class Encoder:
    """`Tokenizer.encode` of many texts, by the fastest engine that gives the same ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._fast = _encoding(tokenizer.backend.to_str())

    @property
    def engine(self) -> str:
        """What encodes most texts."""
        return "tiktoken" if self._fast else "tokenizers"

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, nothing added."""
        if self._fast is None:
            return self._tokenizer.encode_batch(texts)
        return [
            self._tokenizer.encode(text) if _is_hard(text) else self._fast.encode_ordinary(text)
            for text in texts
        ]


def _is_hard(text: str) -> bool:
    return len(text) >= LONGEST_SPACE and _LONG_SPACE.search(text) is not None


@lru_cache(maxsize=2)  # a process encodes many shards
def _encoding(tokenizer_json: str) -> tiktoken.Encoding | None:
    """The same encoding in tiktoken; None when it cannot be had."""
    values = json.loads(tokenizer_json)
    bpe = read_bpe(values)
    if bpe is None or not is_proper(bpe):
        return None
    return tiktoken.Encoding(
        "corpus", pat_str=bpe.pattern, mergeable_ranks=bpe.ids, special_tokens={}
    )


def read_bpe(values: dict[str, Any]) -> Bpe | None:
    """The merges of a tokenizer.json and the ids of what they make; None when it is more than those."""
    model = values["model"]
    pattern = _pattern(values["pre_tokenizer"])
    beyond = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    if (
        pattern is None
        or model.get("type") != "BPE"
        or any(model.get(key) for key in (*beyond, "ignore_merges"))
        or any(values.get(key) for key in ("normalizer", "truncation", "padding"))
        or not all(token["special"] for token in values["added_tokens"])
    ):
        return None
    try:
        spelt = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        merges = [(spelt_bytes(left), spelt_bytes(right)) for left, right in spelt]
        spells = [*SPELLING.values(), *("".join(pair) for pair in spelt)]
        ids = {spelt_bytes(spell): model["vocab"][spell] for spell in spells}
    except KeyError:
        return None
    return Bpe(ids, merges, pattern)


def is_proper(bpe: Bpe) -> bool:
    """Whether joining by tokens' ids is joining by merges, on every text (see above)."""
    made = [bpe.ids[left + right] for left, right in bpe.merges]
    return all(first < second for first, second in pairwise(made)) and all(
        bpe.join(left + right, before=rank) == (left, right)
        for rank, (left, right) in enumerate(bpe.merges)
    )


def _pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """The pattern of words, if both engines are known to read it alike."""
    match pre_tokenizer:
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"} as split,
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if not split.get("invert") and _is_ours(pattern):
            return pattern
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return GPT2_PATTERN
    return None


def _is_ours(pattern: str) -> bool:
    digits = re.search(r"\\p\{N\}\{1,(\d+)\}", pattern)
    return digits is not None and pattern in (
        split_pattern(int(digits[1]), white_space) for white_space in ("runs", "single")
    )
