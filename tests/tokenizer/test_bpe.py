"""Byte pair encoding from scratch: by hand, lossless, and the same as the library's."""

import json
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from llm.config.tokenizer import TokenizerConfig
from llm.tokenizer.bpe import BYTES, SPELLING, Bpe, get_stats, merge, spelt_bytes, train
from llm.tokenizer.chat import SPECIALS
from llm.tokenizer.train import split_pattern, train_tokenizer
from tests.conftest import ROOT

PATTERN = split_pattern(3, "runs")
SHAKESPEARE = ROOT.parent / "shared/data/text/tinyshakespeare.txt"


def test_the_worked_example_of_wikipedia():
    """aaabdaaabac: aa, then ab (as often as aaab's other pairs, of smaller ids), then aaab."""
    bpe = train(["aaabdaaabac"], 256 + 3, 2, PATTERN)
    assert bpe.merges == [(b"a", b"a"), (b"a", b"b"), (b"aa", b"ab")]
    assert bpe.join(b"aaabdaaabac") == (b"aaab", b"d", b"aaab", b"a", b"c")


def test_pairs_are_counted_and_joined_from_the_left():
    word = (b"a", b"a", b"a", b"b")
    assert get_stats({word: 2, (b"b",): 9}) == {(b"a", b"a"): 4, (b"a", b"b"): 2}
    assert merge(word, (b"a", b"a")) == (b"aa", b"a", b"b")
    assert merge((b"a", b"b", b"a", b"b"), (b"a", b"b")) == (b"ab", b"ab")


def test_bytes_are_spelt_and_ordered_as_in_tokenizer_json():
    assert sorted(SPELLING.values()) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert [SPELLING[token[0]] for token in BYTES] == sorted(SPELLING.values())
    assert spelt_bytes("Ġthe") == b" the"


@pytest.fixture(scope="module")
def bpe() -> Bpe:
    return train(["any text, any bytes: Größe 漢字 " * 9], 300, 2, PATTERN)


@given(st.binary())
def test_any_bytes_survive(bpe: Bpe, data: bytes):
    assert bpe.decode(bpe.encode(data)) == data


def library_merges(tokenizer: tokenizers.Tokenizer) -> list[tuple[bytes, bytes]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(spelt_bytes(left), spelt_bytes(right)) for left, right in merges]


def assert_learns_what_the_library_learns(texts: list[str], config: TokenizerConfig) -> None:
    ours = train(
        texts,
        config.vocab_size - len(SPECIALS),
        config.min_frequency,
        split_pattern(config.max_digits, config.white_space),
    )
    theirs = train_tokenizer(iter(texts), config)
    assert ours.merges == library_merges(theirs)
    vocab = theirs.get_vocab(with_added_tokens=False)
    spelt = {"".join(SPELLING[byte] for byte in token): id_ for token, id_ in ours.ids.items()}
    assert {k: v - len(SPECIALS) for k, v in vocab.items() if k not in SPECIALS} == spelt
    for text in texts:
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert [id_ + len(SPECIALS) for id_ in ours.encode(text.encode())] == ids


def config(vocab_size: int, **update: object) -> TokenizerConfig:
    return TokenizerConfig.model_validate(
        {
            "init_from": "",
            "vocab_size": vocab_size,
            "sample_bytes": 1,
            "min_frequency": 2,
            "max_digits": 1,
            "white_space": "runs",
            **update,
        }
    )


@given(
    texts=st.lists(
        st.text(st.sampled_from("aaabbc 12.\n漢ß"), max_size=40), min_size=1, max_size=5
    ),
    vocab_size=st.integers(262, 330),
    white_space=st.sampled_from(["runs", "single"]),
    min_frequency=st.integers(1, 3),
)
@settings(max_examples=200)
def test_the_library_learns_the_same_merges(
    texts: list[str], vocab_size: int, white_space: str, min_frequency: int
):
    given = config(vocab_size, white_space=white_space, min_frequency=min_frequency)
    assert_learns_what_the_library_learns(texts, given)


@pytest.mark.parametrize("path", [SHAKESPEARE, ROOT / "README.md"], ids=lambda path: path.name)
def test_the_library_learns_the_same_merges_of_a_real_text(path: Path):
    if not path.exists():
        pytest.skip(f"{path} is not here")
    text = path.read_text(encoding="utf-8")[:100_000]
    assert_learns_what_the_library_learns([text], config(600, max_digits=3))
