"""Decisions of each quality rule beside datatrove's, and why they differ where they do.

Each rule judges each document alone. Where the two decide differently, datatrove is asked
again with one of our readings of the rule after the other, cumulatively; the reading that
makes it decide as we do is what the difference comes from.
"""

import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.utils.text import split_into_words

from llm.config.filter import FilterConfig
from llm.corpus.filters.c4 import CITATION_MARKS, clean_lines
from llm.corpus.filters.judge import measured
from llm.corpus.filters.measures import BULLETS, CLOSERS, TERMINALS
from llm.corpus.filters.rules import RULES, limits

MODULES = "datatrove.pipeline.filters"
REPEATS, CUT = "gopher_repetition_filter", "c4_filters"
WORDS = ("gopher_quality_filter", REPEATS, "fineweb_quality_filter")
QUALITY = {  # our rule to datatrove's argument
    "min_words": "min_doc_words",
    "max_words": "max_doc_words",
    "min_mean_word_length": "min_avg_word_length",
    "max_mean_word_length": "max_avg_word_length",
    "max_bullet_line_frac": "max_bullet_lines_ratio",
    "max_ellipsis_line_frac": "max_ellipsis_lines_ratio",
    "min_alphabetic_word_frac": "max_non_alpha_words_ratio",
    "min_stop_words": "min_stop_words",
}
REPETITION = {
    "max_dup_line_frac": "dup_line_frac",
    "max_dup_paragraph_frac": "dup_para_frac",
    "max_dup_line_char_frac": "dup_line_char_frac",
    "max_dup_paragraph_char_frac": "dup_para_char_frac",
}
C4 = {
    "no_lorem_ipsum": "filter_lorem_ipsum",
    "no_curly_bracket": "filter_curly_bracket",
    "min_sentences": "min_num_sentences",
}
FINEWEB = {
    "min_punctuated_line_frac": "line_punct_thr",
    "max_short_line_frac": "short_line_thr",
    "max_dup_line_char_frac": "char_duplicates_ratio",
    "max_line_feeds_per_word": "new_line_ratio",
}

ONE_SYMBOL = {  # datatrove has one limit for both, so it is shown one of them
    "gopher.max_hashes_per_word": lambda text: text.replace("...", "---").replace("…", "-"),
    "gopher.max_ellipses_per_word": lambda text: text.replace("#", "="),
}


@dataclass(frozen=True)
class Agreement:
    """How often two implementations of a rule drop the same documents."""

    rule: str
    limit: Any
    documents: int
    ours: int  # dropped
    theirs: int
    reasons: Counter[str]  # of different decisions

    @property
    def frac(self) -> float:
        return 1 - self.reasons.total() / self.documents


@dataclass(frozen=True)
class Reading:
    """One of our readings of a rule: a replacement in datatrove, or in the text it is given."""

    reason: str
    targets: tuple[str, ...] = ()
    replacement: Any = None
    text: Callable[[str], str] = lambda text: text


def compare(documents: pa.Table, config: FilterConfig) -> Iterator[Agreement]:
    """Each rule that both have, over all documents; C4's after both have cut lines."""
    cleaned, _ = clean_lines(documents, config.c4.lines)
    plain, cut = measured(documents, config), measured(cleaned, config)
    texts = documents["text"].to_pylist()
    tried = limits(config)
    split = cache(split_into_words)  # each rule asks for the words again
    with ExitStack() as replaced:
        for module in WORDS:
            replaced.enter_context(patch(f"{MODULES}.{module}.split_into_words", split))
        for rule in RULES:
            name = rule.name
            if name not in tried or (theirs := peer(name, tried[name], config)) is None:
                continue
            values = (cut if name.startswith("c4.") else plain)[name].to_pylist()
            ours = [_fails(value, rule.fails, tried[name]) for value in values]
            shown = [ONE_SYMBOL.get(name, str)(text) for text in texts]
            yield _agreement(name, tried[name], shown, ours, theirs)


def _fails(value: Any, how: str, limit: Any) -> bool:
    if value is None:
        return False
    return how == "found" or (value < limit if how == "<" else value > limit)


def peer(name: str, limit: Any, config: FilterConfig) -> Any:
    """datatrove's filter with this rule alone; None where it has none."""
    section, _, key = name.rpartition(".")
    ngram = re.fullmatch(r"max_(top|dup)_(\d+)gram_char_frac", key)
    if section == "gopher":
        off = dict.fromkeys([*QUALITY.values(), "max_symbol_word_ratio"])
        symbols = key in ("max_hashes_per_word", "max_ellipses_per_word")
        return GopherQualityFilter(
            **off | {"max_symbol_word_ratio" if symbols else QUALITY[key]: limit}
        )
    if section == "repetition":
        off = dict.fromkeys(REPETITION.values()) | {"top_n_grams": (), "dup_n_grams": ()}
        if ngram:
            return GopherRepetitionFilter(
                **off | {f"{ngram[1]}_n_grams": ((int(ngram[2]), limit),)}
            )
        return GopherRepetitionFilter(**off | {REPETITION[key]: limit})
    if section == "c4":
        off = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
        punctuation = {"filter_no_terminal_punct": config.c4.lines.terminal_punctuation}
        return C4QualityFilter(**off | punctuation | {C4[key]: limit})
    if section == "fineweb":
        off = {"line_punct_thr": 0.0, "short_line_thr": 1.0, "char_duplicates_ratio": 1.0}
        return FineWebQualityFilter(**off | {"new_line_ratio": 1e9} | {FINEWEB[key]: limit})
    return None


def _agreement(name: str, limit: Any, texts: list[str], ours: list[bool], peer: Any) -> Agreement:
    theirs = [_drops(peer, text) for text in texts]
    different = [n for n in range(len(texts)) if ours[n] != theirs[n]]
    reasons = Counter[str]()
    with ExitStack() as replaced:
        for reading in readings(name):
            for target in reading.targets:
                replaced.enter_context(patch(f"{MODULES}.{target}", reading.replacement))
            left = [n for n in different if _drops(peer, reading.text(texts[n])) != ours[n]]
            reasons[reading.reason] += len(different) - len(left)
            different = left
    reasons["unexplained"] = len(different)
    return Agreement(name, limit, len(texts), sum(ours), sum(theirs), +reasons)


def _drops(peer: Any, text: str) -> bool:
    """Whether datatrove's filter drops the text."""
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the mean of no words
        try:
            return peer.filter(Document(text=text, id="")) is not True
        except ZeroDivisionError:  # no words by white space
            return False


def readings(name: str) -> list[Reading]:
    """What we read otherwise in a rule, in the order in which datatrove is made to read it so."""
    _, _, key = name.rpartition(".")
    words = Reading(
        "words are parted by white space, not by spaCy",
        tuple(f"{module}.split_into_words" for module in WORDS),
        lambda text, language: text.split(),
    )
    marks = Reading("words of marks alone count", (f"{WORDS[0]}.PUNCTUATION_SET",), frozenset())
    if name.startswith("c4."):
        parted = Reading(
            "sentences end in marks before white space", (f"{CUT}.split_into_sentences",), sentences
        )
        unmarked = Reading(
            "words of a line are counted without citation marks",
            text=lambda text: re.sub(CITATION_MARKS, "", text),
        )
        return [parted, unmarked]
    if key == "min_stop_words":
        replacement = lambda text, language: re.findall(r"[^\W\d_]+", text.lower())  # noqa: E731
        reason = "stop words count when capitalised or beside marks"
        return [words, Reading(reason, words.targets[:1], replacement)]
    if "top_" in key:
        reason = "an n-gram that occurs once repeats nothing"
        return [words, Reading(reason, (f"{REPEATS}.find_top_duplicate",), top_characters)]
    if "gram_" in key:
        reason = "every word that a repeated n-gram covers counts"
        return [words, Reading(reason, (f"{REPEATS}.find_all_duplicate",), repeated_characters)]
    if "dup_" in key:
        targets = (f"{REPEATS}.find_duplicates", f"{WORDS[2]}.find_duplicates")
        return [Reading("lines are the same whatever their indent", targets, duplicates)]
    if key in ("max_bullet_line_frac", "max_ellipsis_line_frac"):
        blank = Reading(
            "blank lines are no lines", text=lambda text: re.sub(r"\n\s*\n", "\n", text)
        )
        marks = Reading(
            f"bullets are any of {BULLETS}", text=lambda text: as_bullets(blank.text(text))
        )
        return [blank, marks]
    return [words, marks]


def sentences(line: str, language: str) -> list[str]:
    """A line's sentences as measures.py counts them."""
    words = line.split()
    ends = [
        word[-1] in TERMINALS
        or (word[-1] in CLOSERS and word[-2:-1] in TERMINALS and len(word) > 1)
        for word in words
    ]
    return words[: sum(ends) + (bool(words) and not ends[-1])]


def top_characters(grams: list[str]) -> int:
    gram, count = Counter(grams).most_common(1)[0]
    return len(gram) * count if count > 1 else 0


def repeated_characters(words: list[str], n: int) -> int:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for at in range(len(words) - n + 1):
        gram = tuple(words[at : at + n])
        covered |= set(range(at, at + n)) if gram in seen else set()
        seen.add(gram)
    return sum(len(words[at]) for at in covered)


def duplicates(parts: list[str]) -> tuple[int, int]:
    """How many parts come again, and their characters, by lines without white space around them."""
    seen: set[str] = set()
    again = []
    for part in parts:
        stripped = part.strip()
        if stripped and stripped in seen:
            again.append(stripped)
        seen.add(stripped)
    return len(again), sum(map(len, again))


def as_bullets(text: str) -> str:
    return re.sub(rf"(?m)^(\s*)[{re.escape(BULLETS)}]", r"\1-", text)
