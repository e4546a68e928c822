"""Counts of whole batches against the same counts written as loops over one text."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.corpus.filters import measures
from llm.corpus.filters.measures import hashes_of, measure
from llm.corpus.filters.repetition import DUPLICATE, TOP

STOP_WORDS = ["the", "of", "and"]
TEXTS = st.lists(
    st.text(alphabet=st.sampled_from("ab .\n\n-…9é#\t{\u00a0漢🙂"), max_size=80)
    | st.lists(st.sampled_from(["to", "be", "or", "the\n", "of.", "x\n\n"]), max_size=60).map(
        " ".join
    ),
    max_size=12,
)


def words_of(text: str) -> list[str]:
    return text.split()


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def paragraphs_of(text: str) -> list[str]:
    blank = re.split(r"\n[^\S\n]*(?:\n[^\S\n]*)+", text.strip())
    return [part.strip() for part in blank if part.strip()]


def duplicates(items: list[str]) -> list[str]:
    seen: set[str] = set()
    return [item for item in items if item in seen or seen.add(item)]


def top(words: list[str], n: int) -> int:
    grams = Counter(" ".join(words[i : i + n]) for i in range(len(words) - n + 1))
    gram, count = max(grams.items(), key=lambda item: item[1], default=("", 0))
    return len(gram) * count if count > 1 else 0


def duplicate(words: list[str], n: int) -> int:
    seen, covered = set(), set()
    for i in range(len(words) - n + 1):
        gram = tuple(words[i : i + n])
        if gram in seen:
            covered |= set(range(i, i + n))
        seen.add(gram)
    return sum(len(words[i]) for i in covered)


def reference(text: str) -> dict[str, int]:
    """The counts of one text, by the definitions of llm.corpus.filters.measures."""
    words, lines, paragraphs = words_of(text), lines_of(text), paragraphs_of(text)
    again, parts = duplicates(lines), duplicates(paragraphs)
    return {
        "characters": len(text),
        "line_feeds": text.count("\n"),
        "letters": sum(map(len, words)),
        "digits": sum(c.isdecimal() for c in text),
        "words": len(words),
        "alphabetic_words": sum(any(c.isalpha() for c in word) for word in words),
        "lines": len(lines),
        "bullet_lines": sum(line[0] in "•‣*-" for line in lines),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines),
        "punctuated_lines": sum(line.endswith(".") for line in lines),
        "short_lines": sum(len(s.rstrip()) <= 30 for s in text.split("\n") if s.strip()),
        "dup_lines": len(again),
        "dup_line_characters": sum(map(len, again)),
        "paragraphs": len(paragraphs),
        "dup_paragraphs": len(parts),
        "dup_paragraph_characters": sum(map(len, parts)),
        **{f"top_{n}gram": top(words, n) for n in TOP},
        **{f"dup_{n}gram": duplicate(words, n) for n in DUPLICATE},
        "stop_words": len({w for w in re.findall(r"[^\W\d_]+", text) if w in STOP_WORDS}),
    }


@settings(max_examples=150)
@given(TEXTS)
def test_every_count_is_that_of_a_loop(texts: list[str]) -> None:
    rows = measure(texts, STOP_WORDS).to_pylist()
    assert len(rows) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        expected = reference(text)
        assert {name: row[name] for name in expected} == expected, text


@settings(max_examples=30)
@given(TEXTS)
def test_the_size_of_a_batch_changes_nothing(texts: list[str]) -> None:
    whole = measure(texts, STOP_WORDS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "BATCH_CHARACTERS", 20)
        assert measure(texts, STOP_WORDS).equals(whole)


def test_gophers_definitions_on_a_worked_example() -> None:
    """Twelve words, of which `the cat sat on a` comes again once: 5 of them, 12 letters of 31."""
    (row,) = measure(["the cat sat on a mat the cat sat on a hat"], []).to_pylist()
    assert (row["characters"], row["words"], row["letters"]) == (41, 12, 30)
    assert row["top_2gram"] == 2 * len("the cat")
    assert row["top_4gram"] == 2 * len("the cat sat on")
    assert row["dup_5gram"] == len("thecatsatona")
    assert row["dup_6gram"] == 0


def test_a_long_repetition_counts_each_character_once() -> None:
    (row,) = measure(["to be or not " * 10], []).to_pylist()
    for n in DUPLICATE:
        assert row[f"dup_{n}gram"] == 9 * len("tobeornot")


def test_capitals_and_marks_beside_a_stop_word_make_no_difference() -> None:
    rows = measure(["The, AND(of", "then off sand", "the the the"], STOP_WORDS).to_pylist()
    assert [row["stop_words"] for row in rows] == [3, 0, 1]


def test_hashes_tell_texts_apart_by_order_length_and_content() -> None:
    texts = [f"{a}{b}" for a in range(300) for b in range(300)]
    different = sorted(set(texts))
    assert len(np.unique(hashes_of(different))) == len(different)
    same = [text + ("x" if n % 2 else "") for n, text in enumerate(["ab", "ba"] * 50)]
    assert len(np.unique(hashes_of(same))) == 2
    assert all(a != b for a, b in pairwise(hashes_of(["", "a", "aa", "aaa", "\n"]).tolist()))
