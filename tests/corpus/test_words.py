"""Words as hashes: those of Python's own splitting, whatever block they are in."""

import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus import words
from llm.corpus.words import Words, range_hashes, split_words

TEXTS = st.lists(st.text("aAbBzZ_09 .-\n\tßÄäΣσéЖж漢字😀—", max_size=30), max_size=8)  # noqa: RUF001


def split(texts: list[str]) -> Words:
    parts = list(split_words(pa.array(texts, pa.string())))
    counts = np.concatenate([np.zeros(0, int), *(np.diff(part.starts) for part in parts)])
    hashes = np.concatenate([np.zeros(0, np.uint64), *(part.hashes for part in parts)])
    return Words(hashes, np.concatenate([[0], np.cumsum(counts)]).astype(int))


def folded(text: str) -> list[str]:
    """The words, each letter in the one form of its cases."""
    one = "".join(fold if len(fold := c.casefold()) == 1 else c for c in text)
    return re.findall(r"\w+", one)


@given(TEXTS)
def test_two_words_are_equal_where_their_hashes_are(texts: list[str]):
    found = split(texts)
    expected = [folded(text) or [f"none: {text}"] for text in texts]
    assert np.diff(found.starts).tolist() == [len(each) for each in expected]
    flat = [word for each in expected for word in each]
    assert len(set(flat)) == len(set(found.hashes.tolist()))
    assert len(set(zip(flat, found.hashes.tolist(), strict=True))) == len(set(flat))


@given(TEXTS)
def test_neither_block_nor_neighbours_change_a_text(texts: list[str]):
    alone = [split([text]).hashes.tolist() for text in texts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words, "BLOCK", 40)
        found = split(texts)
    pieces = zip(found.starts[:-1], found.starts[1:], strict=True)
    assert [found.hashes[first:last].tolist() for first, last in pieces] == alone


def test_a_text_longer_than_a_block_is_cut_between_words(monkeypatch: pytest.MonkeyPatch):
    text = "several words of some length, " * 20
    whole = split([text]).hashes.tolist()
    monkeypatch.setattr(words, "BLOCK", 64)
    assert split([text]).hashes.tolist() == whole
    assert len(split(["x" * 1000])) == 1


@given(TEXTS)
def test_two_texts_of_the_same_words_have_the_same_hash(texts: list[str]):
    found = range_hashes(split(texts)).tolist()
    expected = [tuple(folded(text)) or text for text in texts]
    assert len(set(expected)) == len(set(found))
    assert len(set(zip(expected, found, strict=True))) == len(set(expected))


def test_case_punctuation_and_white_space_change_nothing():
    one, other, third = range_hashes(
        split(["Return the SUM, of\n x_1.", "return the sum of x_1", "return the sum of x_2"])
    ).tolist()
    assert one == other
    assert one != third


def test_a_sliced_array_is_read_from_its_slice():
    texts = pa.array(["one two", "three", "four five six"])
    (found,) = split_words(texts.slice(1))
    assert found.hashes.tolist() == split(["three", "four five six"]).hashes.tolist()


def test_hashes_are_the_same_in_every_process():
    code = (
        "import pyarrow as pa; from llm.corpus.words import split_words\n"
        "print([w.hashes.tolist() for w in split_words(pa.array(['The quick brown, fox 漢字']))])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [w.hashes.tolist() for w in split_words(pa.array(["The quick brown, fox 漢字"]))]
    assert str(here) == other.stdout.strip()
