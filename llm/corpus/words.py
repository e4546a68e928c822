"""The words of many texts at once, each as a 64-bit hash: no word becomes a Python object.

A word is a run of letters, digits and underscores (`\\w+`), without case. Its hash is the
polynomial sum(code(c_j) * BASE^j) mod 2^64 over random codes of its characters, mixed: the
same in every process, and of a billion different words two are equal with probability 3 %.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llm.corpus.columns import as_numpy

BASE = 0x9E3779B97F4A7C15  # odd, so that every power has an inverse
BLOCK = 1 << 17  # characters at a time: what is computed of them stays in the processor's cache
COMMON, ALL = 0x3000, 0x33000  # code points below: alphabets; every letter there is

WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Words:
    """The words of some texts in a row, one text after the other."""

    hashes: np.ndarray  # (words,) uint64
    starts: np.ndarray  # (texts + 1,) int64: the words of text t are starts[t] to starts[t + 1]

    def __len__(self) -> int:
        """Texts."""
        return len(self.starts) - 1


def mix(values: np.ndarray) -> np.ndarray:
    """64-bit integers, scrambled one to one (MurmurHash3's finalizer)."""
    values = values ^ (values >> np.uint64(33))
    values *= np.uint64(0xFF51AFD7ED558CCD)
    values ^= values >> np.uint64(33)
    values *= np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


@cache
def powers(base: int, count: int) -> np.ndarray:
    """base^0, base^1, … mod 2^64."""
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.multiply.accumulate(factors)


def split_words(texts: pa.Array) -> Iterator[Words]:
    """The words of the texts, some texts at a time. A text of no words is one word, itself."""
    texts = texts.cast(pa.large_string())
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset :][: len(texts) + 1]
    data = memoryview(texts.buffers()[2] or b"")
    lengths = as_numpy(pc.call_function("utf8_length", [texts]))  # characters
    first = 0
    while first < len(texts):
        full = int(np.searchsorted(offsets, offsets[first] + BLOCK, side="right")) - 1
        last = min(max(full, first + 1), len(texts))
        raw = data[offsets[first] : offsets[last]]
        starts = np.zeros(last - first + 1, np.int64)
        np.cumsum(lengths[first:last], out=starts[1:])
        words = _words(str(raw, "utf-8"), starts)
        yield _with_wordless(words, raw, offsets[first : last + 1] - offsets[first])
        first = last


def range_hashes(words: Words) -> np.ndarray:
    """A 64-bit hash per text, equal for texts of the same words in the same order."""
    counts = np.diff(words.starts)
    place = np.arange(len(words.hashes)) - np.repeat(words.starts[:-1], counts)
    factors = powers(BASE, 1 << max(1, int(counts.max(initial=1) - 1).bit_length()))
    totals = np.zeros(len(words.hashes) + 1, np.uint64)
    np.cumsum(words.hashes * factors[place], out=totals[1:])
    return mix(totals[words.starts[1:]] - totals[words.starts[:-1]])


@cache
def _character_codes(size: int) -> np.ndarray:
    """By code point, a random number that letters of both cases share; 0 is between words."""
    points = np.delete(np.arange(size, dtype=np.uint32), slice(0xD800, 0xE000))
    characters = points.tobytes().decode("utf-32-le")
    folded = _casefold_each(characters)
    codes = np.zeros(size, np.uint64)
    codes[points] = mix(np.frombuffer(folded.encode("utf-32-le"), np.uint32) + np.uint64(1))
    inside = np.zeros(size, bool)
    for word in WORD.finditer(characters):
        inside[points[word.start() : word.end()]] = True
    codes[~inside] = 0
    return codes


def _casefold_each(characters: str) -> str:
    """Every character folded; one whose fold is several characters stays as it is."""
    folded = ""
    for first in range(0, len(characters), 64):
        block = characters[first : first + 64]
        fold = block.casefold()
        if len(fold) != len(block):
            fold = "".join(f if len(f := c.casefold()) == 1 else c for c in block)
        folded += fold
    return folded


def _words(text: str, starts: np.ndarray) -> Words:
    """The words of texts that are joined to one; `starts` are character positions.

    A single text longer than a block is read in blocks that end between words; a run of
    letters longer than a block is several words.
    """
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    is_common = text.isascii() or points.max() < COMMON
    table = _character_codes(COMMON if is_common else ALL)
    points = points if is_common else np.minimum(points, ALL - 1)
    found = [np.zeros(0, np.uint64)]
    places = [np.zeros(0, np.int64)]
    position = 0
    while position < len(points):
        codes = table[points[position : position + BLOCK]]
        if position + BLOCK < len(points) and not codes.all():
            codes = codes[: len(codes) - int(np.argmin(codes[::-1] != 0))]
        inner = starts[(starts > position) & (starts < position + len(codes))] - position
        hashes, begins = _block(codes, inner)
        found.append(hashes)
        places.append(begins + position)
        position += len(codes)
    return Words(np.concatenate(found), np.searchsorted(np.concatenate(places), starts))


def _block(codes: np.ndarray, breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The hashes of a block's words and where they begin; no word crosses a break."""
    inside = codes != 0
    edge = np.ones(len(codes) + 1, bool)  # between the characters before and at a position
    edge[1:-1] = inside[1:] != inside[:-1]
    edge[breaks] = True
    begins = np.flatnonzero(inside & edge[:-1])
    ends = np.flatnonzero(inside & edge[1:]) + 1
    totals = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(codes * powers(BASE, BLOCK)[: len(codes)], out=totals[1:])
    inverse = powers(pow(BASE, -1, 2**64), BLOCK)
    return mix((totals[ends] - totals[begins]) * inverse[begins]), begins


def _with_wordless(words: Words, raw: memoryview, offsets: np.ndarray) -> Words:
    """The same, with each text of no words as one word."""
    empty = np.flatnonzero(np.diff(words.starts) == 0)
    if not len(empty):
        return words
    digests = [
        hashlib.blake2b(raw[offsets[text] : offsets[text + 1]], digest_size=8).digest()
        for text in empty
    ]
    hashes = np.insert(
        words.hashes, words.starts[empty], np.frombuffer(b"".join(digests), np.uint64)
    )
    added = np.zeros(len(words.starts), np.int64)
    added[empty + 1] = 1
    return Words(hashes, words.starts + np.cumsum(added))
