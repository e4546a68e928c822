"""A batch of texts as one array of code points: classes, and a hash of any span in one step.

Everything the quality rules count is counted here without a loop over documents.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

SPACE, LETTER, DIGIT, SYMBOL = 1, 2, 4, 8  # flags of a code point
COMMON_MARKS = ".,;:'\"()"  # no symbols: prose is full of them
LIMIT = 0x32400  # from here on there are no letters; all count as one symbol
LINE_FEED = ord("\n")

Ints = NDArray[np.int64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Spans:
    """Stretches of characters, in order; `owner` is the document of each."""

    start: Ints
    end: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.start)

    @cached_property
    def lengths(self) -> Ints:
        """Characters of each."""
        return self.end - self.start


@dataclass(frozen=True)
class Characters:
    """The code points of a batch of texts, a line feed after each text."""

    codes: NDArray[np.uint32]
    start: Ints  # of each text
    end: Ints  # of each text, its line feed not included

    @classmethod
    def of(cls, texts: list[str]) -> "Characters":
        """Of texts without lone surrogates."""
        joined = "".join(text + "\n" for text in texts).encode("utf-32-le")
        codes = np.minimum(np.frombuffer(joined, np.uint32), LIMIT)
        end = np.cumsum([len(text) + 1 for text in texts], dtype=np.int64) - 1
        start = np.concatenate([np.zeros(1, np.int64), end[:-1] + 1])[: len(texts)]
        return cls(codes, start, end)

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.start)

    @cached_property
    def flags(self) -> NDArray[np.uint8]:
        """The class of each code point."""
        return _classes()[self.codes]

    def count(self, mask: NDArray[np.bool_]) -> Ints:
        """How many characters of each text the mask holds of, line feeds after texts included."""
        return np.add.reduceat(mask, self.start, dtype=np.int64)

    def per_text(self, spans: Spans, weights: NDArray | None = None) -> Ints:
        """How many spans each text has, or the sum of their weights."""
        if weights is None:
            return np.bincount(spans.owner, minlength=len(self))
        return np.bincount(spans.owner, weights, len(self)).astype(np.int64)

    def runs(self, mask: NDArray[np.bool_]) -> Spans:
        """The longest stretches on which the mask holds; it must not hold of line feeds."""
        edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
        return self.spans(edges[::2], edges[1::2])

    def spans(self, start: Ints, end: Ints) -> Spans:
        """Spans in order, none of which leaves its text."""
        counts = np.diff(np.searchsorted(start, self.start), append=len(start))
        return Spans(start, end, np.repeat(np.arange(len(self)), counts))

    def hashes(self, spans: Spans) -> Hashes:
        """Equal for equal spans, wherever they are; different for others but for about 1 in 2^50."""
        _, inverses = _powers(len(self.codes) + 1)
        sums = self._prefix[spans.end] - self._prefix[spans.start]
        return mix(sums * inverses[spans.start] + spans.lengths.astype(np.uint64))

    @cached_property
    def _prefix(self) -> Hashes:
        """Sums of value times power, modulo 2^64, of the characters before each position."""
        powers, _ = _powers(len(self.codes) + 1)
        terms = _values()[self.codes] * powers[: len(self.codes)]
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])


def mix(hashes: Hashes) -> Hashes:
    """Spread over all 64 bits (splitmix64's finaliser; Steele et al. 2014)."""
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return hashes ^ (hashes >> np.uint64(31))


@cache
def _classes() -> NDArray[np.uint8]:
    """The flags of each code point up to LIMIT."""
    return np.array([_class(chr(code)) for code in range(LIMIT)] + [SYMBOL], np.uint8)


def _class(character: str) -> int:
    if character.isspace():
        return SPACE
    category = unicodedata.category(character)
    if category.startswith("L"):
        return LETTER
    if category == "Nd":
        return DIGIT
    return 0 if category[0] in "MN" or character in COMMON_MARKS else SYMBOL


@cache
def _values() -> Hashes:
    """A number for each code point, odd and even alike."""
    return mix(np.arange(1, LIMIT + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))


_known = [np.ones(1, np.uint64), np.ones(1, np.uint64)]


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers of an odd base modulo 2^64, and their inverses; kept for the next batch."""
    if len(_known[0]) < count:
        base = 0x9E3779B97F4A7C15
        for n, factor in enumerate((base, pow(base, -1, 2**64))):
            factors = np.full(count, factor, np.uint64)
            factors[0] = 1
            _known[n] = np.cumprod(factors, dtype=np.uint64)
    return _known[0], _known[1]
