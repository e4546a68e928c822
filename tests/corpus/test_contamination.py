"""Shared n-grams between training documents and evaluation items."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.contamination import (
    Hit,
    Work,
    evaluation_items,
    every_item,
    find_hits,
    index_items,
    without_boilerplate,
)
from llm.corpus.documents import text_schema, write_rows
from llm.corpus.ngrams import NgramHasher, split_words
from llm.errors import DataError

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


@given(WORDS, st.integers(1, 4))
def test_hashes_are_equal_where_the_ngrams_are(words: list[str], size: int):
    hashes = NgramHasher(size).hashes(words)
    ngrams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert len(hashes) == len(ngrams)
    for one, first in zip(ngrams, hashes, strict=True):
        for other, second in zip(ngrams, hashes, strict=True):
            assert (one == other) == bool(first == second)


def search(folder: Path, texts: list[str], items: dict[str, str], size: int = 3) -> list[Hit]:
    rows = [{"id": f"d{n}", "text": text} for n, text in enumerate(texts)]
    write_rows(folder / "00000.parquet", rows, text_schema("id", "text"))
    indexed = {"set": index_items(items.items(), size)}
    return find_hits(Work(folder / "00000.parquet", indexed, size, frozenset(["d0"])))


@given(st.lists(WORDS, min_size=1, max_size=4), st.lists(WORDS, min_size=1, max_size=4))
def test_a_document_is_hit_exactly_where_it_shares_an_ngram(
    documents: list[list[str]], items: list[list[str]]
):
    def grams(words: list[str]) -> set[str]:
        return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}

    index = index_items(((str(n), " ".join(words)) for n, words in enumerate(items)), 3)
    hasher = NgramHasher(3)
    for words in documents:
        found = np.isin(hasher.hashes(words), index.hashes).any()
        assert bool(found) == any(grams(words) & grams(item) for item in items)


def test_hits_name_document_item_and_ngram_and_leave_held_out_documents_alone(tmp_path: Path):
    texts = ["one two three", "Zero; one TWO three!", "one two", "nine ten"]
    (hit,) = search(tmp_path, texts, {"item": "And one two three.", "short": "nine ten"})
    assert (hit.set_name, hit.document, hit.item) == ("set", "d1", "item")
    assert hit.ngram == "one two three"


def test_nothing_to_look_for_finds_nothing(tmp_path: Path):
    assert search(tmp_path, ["x", "one two three"], {}) == []


def test_an_ngram_of_too_many_documents_is_boilerplate():
    hits = [Hit("s", f"d{n}", "i", 1, "every where") for n in range(3)]
    hits += [Hit("s", "d0", "i", 2, "only here"), Hit("s", "d0", "i", 3, "again")]
    assert without_boilerplate(hits, 2) == hits[3:]
    assert without_boilerplate(hits, 3) == hits


def test_every_item_that_has_an_ngram_is_told_once_per_document(tmp_path: Path):
    texts = ["held out", "one two three four", "two three four"]
    items = {"a": "one two three four", "b": "two three four", "c": "three four"}
    sets = {"set": index_items(items.items(), 3)}
    hits = every_item(search(tmp_path, texts, items), sets)
    found = [(hit.document, hit.item, hit.ngram) for hit in hits]
    assert found == [
        ("d1", "a", "one two three"),
        ("d1", "b", "two three four"),
        ("d2", "a", "two three four"),
        ("d2", "b", "two three four"),
    ]


def test_every_string_of_a_row_counts(tmp_path: Path):
    path = tmp_path / "set.jsonl"
    row = {"question": "one", "choices": ["two", {"text": "three"}], "answer": 1}
    path.write_text("\n" + json.dumps(row))
    ((name, text),) = evaluation_items(path)
    assert name == f"{path}:1"
    assert split_words(text) == ["one", "two", "three"]


def test_an_empty_evaluation_set_is_one_error(tmp_path: Path):
    (tmp_path / "set.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"evaluation_sets: .* holds no row"):
        list(evaluation_items(tmp_path / "set.jsonl"))
