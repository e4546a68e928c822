"""MinHash-LSH: texts that share most of their shingles get an equal key in some band.

Two texts are near duplicates when all rows of some band of their signatures agree
(Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4). For texts that share a
share s of their shingles that happens with probability 1 - (1 - s^rows)^bands, which is
steepest near the threshold (1/bands)^(1/rows). As in FineWeb, a collision is not verified.
"""

import numpy as np

from llm.config.corpus import DedupConfig
from llm.corpus.words import BASE, Words, mix, powers

TEXTS = 512  # at a time: their shingles stay in the processor's cache


def threshold(config: DedupConfig) -> float:
    """About the similarity (Jaccard, of shingles) from which on duplicates are found."""
    return (1 / config.bands) ** (1 / config.rows_per_band)


def probability(similarity: float, config: DedupConfig) -> float:
    """That texts of this similarity (Jaccard, of shingles) are found to be duplicates."""
    return 1 - (1 - similarity**config.rows_per_band) ** config.bands


def band_keys(words: Words, config: DedupConfig) -> np.ndarray:
    """A 64-bit key per band and text, (bands, texts): equal keys are equal bands of signatures."""
    rows = signatures(words, config).reshape(config.bands, config.rows_per_band, len(words))
    keys = np.zeros((config.bands, len(words)), np.uint64)
    for row in range(config.rows_per_band):
        keys = mix(keys * np.uint64(BASE) + rows[:, row])
    return keys


def signatures(words: Words, config: DedupConfig) -> np.ndarray:
    """(bands * rows_per_band, texts) uint32: per permutation the least of the shingles' hashes.

    A permutation of the 32-bit integers is x -> a * x ^ b with an odd a.
    """
    hashes, starts = shingles(words, config.shingle_words)
    rng = np.random.default_rng(config.seed)
    size = config.bands * config.rows_per_band
    factors, masks = rng.integers(0, 2**32, (2, size), np.uint32)
    factors |= 1
    signature = np.empty((size, len(words)), np.uint32)
    for first in range(0, len(words), TEXTS):
        last = min(first + TEXTS, len(words))
        part = hashes[starts[first] : starts[last]]
        begins = starts[first:last] - starts[first]
        permuted = np.empty_like(part)
        for row in range(size):
            np.multiply(part, factors[row], out=permuted)
            permuted ^= masks[row]
            np.minimum.reduceat(permuted, begins, out=signature[row, first:last])
    return signature


def shingles(words: Words, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint32) of the word n-grams of every text, and where each text's start, and the end.

    A text of fewer words is one shingle.
    """
    counts = np.diff(words.starts)
    number = np.arange(len(words))
    padded = np.zeros(len(words.hashes) + len(words) * (size - 1) + size, np.uint64)
    gaps = np.repeat(number * (size - 1), counts)  # zeros after each text keep it apart
    padded[np.arange(len(words.hashes)) + gaps] = words.hashes
    length = len(padded) - size
    windows = np.zeros(length, np.uint64)
    for place, factor in enumerate(powers(BASE, size)):
        windows += padded[place : place + length] * factor
    each = np.maximum(counts - size + 1, 1)
    starts = np.concatenate([[0], np.cumsum(each)])
    shift = words.starts[:-1] + number * (size - 1) - starts[:-1]
    chosen = windows[np.arange(starts[-1]) + np.repeat(shift, each)]
    return (mix(chosen) >> np.uint64(32)).astype(np.uint32), starts
