"""tiktoken's ids are those of `tokenizers`, on every text, or it is not used."""

import itertools
import json
import sys
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers

from llm.config.tokenizer import TokenizerConfig
from llm.tokenizer import fast
from llm.tokenizer.bpe import Bpe, train
from llm.tokenizer.fast import LONGEST_SPACE, Encoder, is_proper
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import split_pattern, train_tokenizer
from tests.conftest import ROOT

CHARACTERS = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
WORDS = [
    "the",
    " the",
    "ther",
    "aaaa",
    " aab",
    "\n\n",
    "  ",
    "1234",
    "Größe",
    "漢字",
    "🙂",
    "'LL",
    "\u00a0",
]


def made(folder: Path, texts: list[str], **update: object) -> Tokenizer:
    values = {"init_from": "", "sample_bytes": 1, "min_frequency": 1, "max_digits": 2}
    values |= {"vocab_size": 400, "white_space": "runs", **update}
    config = TokenizerConfig.model_validate(values)
    save_tokenizer(folder, train_tokenizer(iter(texts), config))
    return Tokenizer.load(folder)


@pytest.fixture(scope="module", params=["runs", "single"])
def tok(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    text = (ROOT / "README.md").read_text(encoding="utf-8") + "".join(WORDS) * 9
    folder = tmp_path_factory.mktemp("tokenizer")
    return made(folder, [text], vocab_size=1500, white_space=request.param)


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3))).map("".join))
@settings(max_examples=500)
def test_any_text_has_the_librarys_ids(tok: Tokenizer, text: str):
    encoder = Encoder(tok)
    assert encoder.engine == "tiktoken"
    assert encoder.encode([text, ""]) == [tok.encode(text), []]


@pytest.mark.parametrize("pattern", [r"\p{L}", r"\p{N}", r"\s", *(f"(?i:{c})" for c in "stmdrevl")])
def test_both_engines_class_every_character_alike(pattern: str):
    """The patterns are made of these classes; an upgrade that brings another Unicode shows here."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    theirs = tiktoken.Encoding("class", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    matched = bytes(theirs.encode_ordinary(CHARACTERS)).decode()
    others = normalizers.Replace(Regex(pattern), "").normalize_str(CHARACTERS)
    assert not set(matched) & set(others)
    assert len(matched) + len(others) == len(CHARACTERS)


@pytest.mark.parametrize("pair", ["re", "ve", "ll"])
def test_no_character_folds_to_two_letters_of_a_contraction(pair: str):
    assert normalizers.Replace(Regex(f"(?i:{pair})"), "").normalize_str(CHARACTERS) == CHARACTERS


def test_more_white_space_than_tiktoken_has_room_for(tok: Tokenizer):
    for text in (" " * LONGEST_SPACE + "x", "a" * LONGEST_SPACE + "\u3000" * LONGEST_SPACE):
        assert fast._is_hard(text)
        assert not fast._is_hard(text[1:-LONGEST_SPACE])
        assert Encoder(tok).encode([text]) == [tok.encode(text)]


def test_a_special_token_in_a_text_is_plain_text(tok: Tokenizer):
    text = "<|endoftext|><|assistant|>"
    assert Encoder(tok).encode([text]) == [tok.encode(text)]
    assert min(tok.encode(text)) > tok.end_id


def test_gpt2s_own_form_is_read(tmp_path: Path):
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([(ROOT / "README.md").read_text()], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tok = Tokenizer.adopt(tmp_path)
    encoder = Encoder(tok)
    assert encoder.engine == "tiktoken"
    texts = ["It's 12 o'clock,  isn't\tit?\n\n they'll 'RE see", "".join(WORDS), CHARACTERS[:5000]]
    assert encoder.encode(texts) == [tok.encode(text) for text in texts]


def test_a_merge_that_its_own_bytes_do_not_lead_to_is_found_out():
    pattern = split_pattern(1, "runs")
    learnt = train(["aaaa abab aab the then there"] * 3, 280, 1, pattern)
    assert is_proper(learnt)
    ids = {**learnt.ids, b"xy": 300, b"yz": 301, b"xyz": 302}
    merges = [(b"x", b"y"), (b"y", b"z"), (b"x", b"yz")]  # the bytes of xyz end as xy and z
    assert not is_proper(Bpe(ids, merges, pattern))
    assert not is_proper(Bpe({**ids, b"xy": 301, b"yz": 300}, merges[:2], pattern))


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": None},
        {"model": {"dropout": 0.1}},
        {"model": {"ignore_merges": True}},
        {"added_tokens": {"special": False}},
    ],
    ids=str,
)
def test_what_is_more_than_bpe_on_bytes_is_left_to_the_library(
    tok: Tokenizer, change: dict, monkeypatch: pytest.MonkeyPatch
):
    values = json.loads(tok.backend.to_str())
    for key, value in change.items():
        if key == "model":
            values[key] |= value
        elif key == "added_tokens":
            values[key][0] |= value
        else:
            values[key] = value
    assert fast.read_bpe(values) is None
    monkeypatch.setattr(fast, "_encoding", lambda _: None)
    encoder = Encoder(tok)
    assert encoder.engine == "tokenizers"
    assert encoder.encode(WORDS) == [tok.encode(word) for word in WORDS]


@given(st.lists(st.sampled_from(["ab", "ba", "aab", "bba", "c", "abc"]), min_size=1, max_size=12))
@settings(max_examples=100)
def test_what_is_proper_agrees_on_every_short_text(words: list[str]):
    """All texts of up to six of three letters, of any vocabulary learnt from any such words."""
    bpe = train([" ".join(words)], 256 + 12, 1, split_pattern(1, "runs"))
    if is_proper(bpe):
        other = tiktoken.Encoding(
            "t", pat_str=bpe.pattern, mergeable_ranks=bpe.ids, special_tokens={}
        )
        for letters in itertools.product("abc", repeat=6):
            text = "".join(letters)
            assert other.encode_ordinary(text) == bpe.encode(text.encode())
