"""Duplicates: equal texts by hash, similar ones by MinHash-LSH, and their clusters.

Two texts are near duplicates when all rows of some band of their signatures agree
(Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4). For texts that share a
share s of their shingles that happens with probability 1 - (1 - s^rows)^bands. As in
FineWeb, a collision is not verified further.
"""

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import rensa

from llm.config.corpus import DedupConfig

WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, case folded; a text of none is one word, itself."""
    return WORD.findall(text.casefold()) or [text]


def exact_hash(text_words: Sequence[str]) -> str:
    """Equal for texts that differ only in case, punctuation and white space."""
    return hashlib.sha1(" ".join(text_words).encode()).hexdigest()


def shingles(text_words: Sequence[str], size: int) -> list[str]:
    """The distinct word n-grams, sorted; a shorter text is one shingle."""
    last = max(1, len(text_words) - size + 1)
    return sorted({" ".join(text_words[i : i + size]) for i in range(last)})


def band_keys(texts: Sequence[Sequence[str]], config: DedupConfig) -> np.ndarray:
    """A 64-bit key per text and band, (texts, bands): equal keys are equal bands of signatures."""
    rows = config.bands * config.rows_per_band
    sets = [shingles(text, config.shingle_words) for text in texts]
    minhash = rensa.RMinHash  # pyright: ignore[reportAttributeAccessIssue] (a compiled module)
    digests = minhash.digests_from_token_sets(sets, rows, config.seed)
    signatures = np.array(digests, np.uint32).reshape(-1, config.bands, config.rows_per_band)
    return _hash_rows(signatures)


def _hash_rows(values: np.ndarray) -> np.ndarray:
    """FNV-1a over the last axis, on 32-bit words instead of bytes."""
    keys = np.full(values.shape[:-1], 0xCBF29CE484222325, np.uint64)
    for row in range(values.shape[-1]):
        keys = (keys ^ values[..., row].astype(np.uint64)) * np.uint64(0x100000001B3)
        keys ^= keys >> np.uint64(32)
    return keys


class Clusters:
    """Disjoint sets of documents 0 to n - 1; a set's root is its first document."""

    def __init__(self, size: int) -> None:
        self._parents = list(range(size))

    def root(self, item: int) -> int:
        """The first document of the item's set."""
        while self._parents[item] != item:
            self._parents[item] = self._parents[self._parents[item]]
            item = self._parents[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Make one set of the two items' sets."""
        first, second = sorted((self.root(one), self.root(other)))
        self._parents[second] = first


def join_equal(clusters: Clusters, keys: np.ndarray, items: np.ndarray) -> None:
    """Join the items whose keys are equal; both arrays are of one length."""
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    for position in same.tolist():
        clusters.join(int(items[order[position]]), int(items[order[position + 1]]))
