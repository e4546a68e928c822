"""Word n-grams as 64-bit hashes, computed over whole documents at once."""

import hashlib
import re

import numpy as np

WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that every power is invertible
CACHED_WORDS = 1_000_000


def split_words(text: str) -> list[str]:
    """The case-folded words of a text."""
    return WORD.findall(text.casefold())


class NgramHasher:
    """Hashes of all n-grams of `size` words of a text.

    The hash is polynomial in 64-bit word hashes: equal n-grams have equal hashes in every
    process, and of a billion different ones a collision with a given million is unlikely.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._word_hashes: dict[str, int] = {}
        self._powers = np.array([pow(int(MULTIPLIER), n, 2**64) for n in range(size)], np.uint64)

    def hashes(self, words: list[str]) -> np.ndarray:
        """One uint64 per n-gram, in order; none for a text of fewer than `size` words."""
        if len(words) < self.size:
            return np.empty(0, np.uint64)
        if len(self._word_hashes) > CACHED_WORDS:
            self._word_hashes.clear()
        hashed = np.array([self._word_hash(word) for word in words], np.uint64)
        windows = np.lib.stride_tricks.sliding_window_view(hashed, self.size)
        return (windows * self._powers).sum(axis=1, dtype=np.uint64)

    def _word_hash(self, word: str) -> int:
        known = self._word_hashes.get(word)
        if known is None:
            known = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest())
            self._word_hashes[word] = known
        return known
