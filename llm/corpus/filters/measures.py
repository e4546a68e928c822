"""What the rules measure of each text: counts of characters, words, lines and paragraphs.

A word is a stretch of characters that are no white space. A line is its characters without
white space around them, and is not empty; a paragraph is a stretch of such lines.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from llm.corpus.columns import number_column
from llm.corpus.filters.characters import (
    DIGIT,
    LETTER,
    LINE_FEED,
    SPACE,
    SYMBOL,
    Characters,
    Hashes,
    Ints,
    Spans,
)
from llm.corpus.filters.repetition import repetition, seen_before

BATCH_CHARACTERS = 1_000_000  # arrays of a batch stay in the processor's cache, and memory flat
SHORT_LINE = 30  # characters (Penedo et al. 2024, section 3.6)
BULLETS = "•‣◦▪·*-–"  # noqa: RUF001
ELLIPSIS = "…"
# Unicode's Sentence_Terminal in the larger scripts
TERMINALS = ".!?‼⁇⁈⁉‽⸮。．！？｡։؟۔܀܁܂।॥၊။።፧፨។៕᠃᠉﹒﹖﹗꓿"  # noqa: RUF001
CLOSERS = "\"')]}”’»"  # noqa: RUF001


def measure(texts: list[str], stop_words: Sequence[str]) -> pa.Table:
    """A row of counts for each text, in order."""
    batches = [_measure(batch, stop_words) for batch in _batches(texts)]
    if not batches:
        return _measure([""], stop_words).slice(0, 0)
    return pa.concat_tables(batches)


def _batches(texts: list[str]) -> Iterator[list[str]]:
    """Texts in order; a batch holds more than BATCH_CHARACTERS only if it is a single text."""
    batch: list[str] = []
    held = 0
    for text in texts:
        if batch and held + len(text) > BATCH_CHARACTERS:
            yield batch
            batch, held = [], 0
        batch.append(text)
        held += len(text)
    if batch:
        yield batch


def _measure(texts: list[str], stop_words: Sequence[str]) -> pa.Table:
    characters = Characters.of(texts)
    words = characters.runs(characters.flags & SPACE == 0)
    line_feeds = np.flatnonzero(characters.codes == LINE_FEED)
    lines = _lines(characters, words, line_feeds)
    counts = {
        "characters": characters.end - characters.start,
        "line_feeds": characters.spans(line_feeds, line_feeds).owner,
        **_of_characters(characters),
        **_of_words(characters, words),
        **_of_lines(characters, words, lines),
        **_of_paragraphs(characters, line_feeds, lines),
        **repetition(characters, words),
        "stop_words": _stop_words(characters, stop_words),
    }
    counts["line_feeds"] = np.bincount(counts["line_feeds"], minlength=len(texts)) - 1
    return pa.table({name: number_column(values) for name, values in counts.items()})


def _of_characters(characters: Characters) -> dict[str, Ints]:
    flags = characters.flags
    return {
        "letters": characters.count(flags & SPACE == 0),
        "digits": characters.count(flags & DIGIT > 0),
        "symbols": characters.count(flags & SYMBOL > 0),
    }


def _of_words(characters: Characters, words: Spans) -> dict[str, Ints]:
    before = np.append(0, np.cumsum(characters.flags & LETTER > 0))
    alphabetic = before[words.end] > before[words.start]
    return {
        "words": characters.per_text(words),
        "alphabetic_words": characters.per_text(words, alphabetic),
    }


def _lines(characters: Characters, words: Spans, line_feeds: Ints) -> Spans:
    """The lines, without white space around them; the empty ones are left out."""
    number = np.searchsorted(line_feeds, words.start)  # the line of each word
    first = np.flatnonzero(np.diff(number, prepend=-1))
    last = np.append(first[1:], len(words))[: len(first)] - 1
    return Spans(words.start[first], words.end[last], words.owner[first])


def _of_lines(characters: Characters, words: Spans, lines: Spans) -> dict[str, Ints]:
    """Counts of lines, and of sentences: a line ends one, whatever its last character is."""
    codes = characters.codes
    seen = seen_before(characters, lines)
    ends_ellipsis = _is_any(codes[lines.end - 1], ELLIPSIS) | _ends_in_dots(codes, lines)
    last = codes[words.end - 1]
    inner = codes[np.maximum(words.end - 2, words.start)]
    ends = _is_any(last, TERMINALS) | (_is_any(last, CLOSERS) & _is_any(inner, TERMINALS))
    unended = ~ends[np.searchsorted(words.end, lines.end)]
    return {
        "lines": characters.per_text(lines),
        "bullet_lines": characters.per_text(lines, _is_any(codes[lines.start], BULLETS)),
        "ellipsis_lines": characters.per_text(lines, ends_ellipsis),
        "punctuated_lines": characters.per_text(lines, _is_any(codes[lines.end - 1], TERMINALS)),
        "short_lines": characters.per_text(lines, _with_indent(characters, lines) <= SHORT_LINE),
        "dup_lines": characters.per_text(lines, seen),
        "dup_line_characters": characters.per_text(lines, lines.lengths * seen),
        "sentences": characters.per_text(words, ends) + characters.per_text(lines, unended),
    }


def _with_indent(characters: Characters, lines: Spans) -> Ints:
    """Characters of each line, the white space before it included."""
    line_feeds = np.append(-1, np.flatnonzero(characters.codes == LINE_FEED))
    return lines.end - line_feeds[np.searchsorted(line_feeds, lines.start) - 1] - 1


def _of_paragraphs(characters: Characters, line_feeds: Ints, lines: Spans) -> dict[str, Ints]:
    number = np.searchsorted(line_feeds, lines.start)
    opens = (np.diff(number, prepend=-2) > 1) | (np.diff(lines.owner, prepend=-1) != 0)
    first = np.flatnonzero(opens)
    last = np.append(first[1:], len(lines))[: len(first)] - 1
    paragraphs = Spans(lines.start[first], lines.end[last], lines.owner[first])
    seen = seen_before(characters, paragraphs)
    return {
        "paragraphs": characters.per_text(paragraphs),
        "dup_paragraphs": characters.per_text(paragraphs, seen),
        "dup_paragraph_characters": characters.per_text(paragraphs, paragraphs.lengths * seen),
    }


def _stop_words(characters: Characters, stop_words: Sequence[str]) -> Ints:
    """How many different ones of the stop words each text has, small or capitalised."""
    tokens = characters.runs(characters.flags & LETTER > 0)
    longest = max((len(word) for word in stop_words), default=0)
    short = tokens.lengths <= longest
    tokens = Spans(tokens.start[short], tokens.end[short], tokens.owner[short])
    keys = characters.hashes(tokens)
    found = np.zeros(len(characters), np.int64)
    for word in dict.fromkeys(stop_words):
        wanted = hashes_of([word, word.capitalize(), word.upper()])
        owners = tokens.owner[np.isin(keys, wanted)]
        found += np.bincount(owners, minlength=len(characters)) > 0
    return found


def hashes_of(texts: list[str]) -> Hashes:
    """The hash of each text as a span."""
    characters = Characters.of(texts)
    return characters.hashes(characters.spans(characters.start, characters.end))


def _is_any(codes: NDArray[np.uint32], characters: str) -> NDArray[np.bool_]:
    return np.isin(codes, [ord(character) for character in characters])


def _ends_in_dots(codes: NDArray[np.uint32], lines: Spans) -> NDArray[np.bool_]:
    """Which lines end in three full stops."""
    dots = np.ones(len(lines), np.bool_)
    for back in (1, 2, 3):
        dots &= codes[np.maximum(lines.end - back, 0)] == ord(".")
    return dots & (lines.lengths >= 3)
