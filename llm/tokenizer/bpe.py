"""Byte pair encoding from scratch: the algorithm, and the reference that the fast engines are held to.

    bpe = train(texts, vocab_size=1000, min_frequency=2, pattern=split_pattern(3, "runs"))
    bpe.decode(bpe.encode(b"any bytes")) == b"any bytes"

A text is cut into words, and merges never cross their ends. Training counts neighbouring
pairs of tokens in all words, joins the most frequent pair into a token of the next id, and
begins again (Gage 1994; Sennrich et al. 2016). Encoding joins pairs in the order in which
they were learnt. `llm/tokenizer/train.py` learns the same merges, faster.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import regex

Token = bytes
Pair = tuple[Token, Token]
Word = tuple[Token, ...]

# The bytes in the order of their ids, GPT-2's: first those that print as one character.
_PRINTED = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = tuple(byte for byte in range(0x100) if byte not in _PRINTED)
BYTES = tuple(bytes([byte]) for byte in (*_PRINTED, *_OTHERS))
# How tokenizer.json spells a byte: as that character, the others from U+0100 on.
SPELLING = {byte: chr(byte) for byte in _PRINTED} | {
    byte: chr(0x100 + place) for place, byte in enumerate(_OTHERS)
}
_SPELT = {character: byte for byte, character in SPELLING.items()}


def spelt_bytes(spelt: str) -> Token:
    """The bytes of a token as tokenizer.json spells it; KeyError when it is no byte-level token."""
    return bytes(_SPELT[character] for character in spelt)


def get_stats(words: Mapping[Word, int]) -> Counter[Pair]:
    """How often each pair of neighbours occurs in words that occur so often."""
    stats: Counter[Pair] = Counter()
    for word, count in words.items():
        for pair in itertools.pairwise(word):
            stats[pair] += count
    return stats


def merge(word: Word, pair: Pair) -> Word:
    """The word with every occurrence of the pair joined, from the left."""
    merged: list[Token] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return tuple(merged)


@dataclass(frozen=True)
class Bpe:
    """A trained byte pair encoding."""

    ids: dict[Token, int]
    merges: list[Pair]  # as they were learnt
    pattern: str  # of words

    @cached_property
    def ranks(self) -> dict[Pair, int]:
        """The place of each merge among the merges."""
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def encode(self, data: bytes) -> list[int]:
        """The ids of any bytes; they need not be UTF-8."""
        words = split_words(data.decode("utf-8", "surrogateescape"), self.pattern)
        return [self.ids[token] for word in words for token in self.join(word)]

    def decode(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids."""
        tokens = {id_: token for token, id_ in self.ids.items()}
        return b"".join(tokens[id_] for id_ in ids)

    def join(self, word: bytes, before: int | None = None) -> Word:
        """A word's tokens, by all merges, or by those learnt before the one of that rank.

        The earliest merge goes first, and the leftmost of its places.
        """
        last = len(self.merges) if before is None else before
        tokens = [bytes([byte]) for byte in word]
        while True:
            ranked = [
                (self.ranks.get(pair, last), at)
                for at, pair in enumerate(itertools.pairwise(tokens))
            ]
            rank, at = min(ranked, default=(last, 0))
            if rank >= last:
                return tuple(tokens)
            tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]


def train(texts: Iterable[str], vocab_size: int, min_frequency: int, pattern: str) -> Bpe:
    """At most `vocab_size` tokens: the 256 bytes and the merges of pairs seen `min_frequency` times.

    Of equally frequent pairs the one of the smaller ids is joined.
    """
    words = Counter(word for text in texts for word in split_words(text, pattern))
    cut = {tuple(bytes([byte]) for byte in word): count for word, count in words.items()}
    ids = {token: id_ for id_, token in enumerate(BYTES)}
    merges: list[Pair] = []
    while len(ids) < vocab_size:
        stats = get_stats(cut)
        if not stats:
            break
        best = min(stats, key=lambda pair: (-stats[pair], ids[pair[0]], ids[pair[1]]))
        if stats[best] < min_frequency:
            break
        merges.append(best)
        ids.setdefault(best[0] + best[1], len(ids))  # two pairs may join to the same bytes
        cut = {merge(word, best): count for word, count in cut.items()}
    return Bpe(ids, merges, pattern)


def split_words(text: str, pattern: str) -> Iterator[bytes]:
    """The words of a text: what the pattern matches, as bytes."""
    for match in regex.finditer(pattern, text):
        yield match.group().encode("utf-8", "surrogateescape")
