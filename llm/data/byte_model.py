"""An order-2 byte model: the baseline that a language model of the same text must beat.

The next byte given the two before it, interpolated down to orders 1 and 0 and the uniform
distribution by Witten-Bell (Witten and Bell 1991; Chen and Goodman 1998, 2.4). A context
seen N times, with T distinct followers, keeps N / (N + T) of its own counts.
"""

from collections.abc import Iterable

import numpy as np

SEPARATOR = 0  # ends a document, and is what comes before one; no text holds it


class ByteModel:
    """Counts of byte triples, and the bits they need for another text."""

    def __init__(self) -> None:
        self._triples = np.zeros(256**3, np.int64)

    def update(self, texts: Iterable[str]) -> None:
        """Count the texts' bytes, and their ends, each in its context."""
        first, second, third = _contexts(texts)
        codes = (first << 16) | (second << 8) | third
        self._triples += np.bincount(codes, minlength=256**3)

    def bits(self, texts: Iterable[str]) -> float:
        """Bits that the texts and their ends take, summed."""
        first, second, third = _contexts(texts)
        triples = self._triples.reshape(256, 256, 256)
        pairs = triples.sum(axis=0)
        order_0 = _interpolate(pairs.sum(axis=0), np.full(256, 1 / 256))  # (byte,)
        order_1 = _interpolate(pairs, np.broadcast_to(order_0, (256, 256)))  # (before, byte)
        totals = triples.sum(axis=2)  # (two before, before)
        kinds = (triples > 0).sum(axis=2)
        seen = totals[first, second]
        spread = kinds[first, second]
        lower = order_1[second, third]
        weighted = triples[first, second, third] + spread * lower
        chances = np.where(seen > 0, weighted / np.maximum(seen + spread, 1), lower)
        return float(-np.log2(chances).sum())


def _interpolate(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Witten-Bell over the last axis: a context never seen takes the lower order as it is."""
    total = counts.sum(axis=-1, keepdims=True)
    kinds = (counts > 0).sum(axis=-1, keepdims=True)
    return np.where(total > 0, (counts + kinds * lower) / np.maximum(total + kinds, 1), lower)


def _contexts(texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two bytes before, the byte before, and each byte of the texts and of their ends."""
    joined = bytes(2) + b"".join(text.encode() + bytes(2) for text in texts)
    stream = np.frombuffer(joined, np.uint8).astype(np.int64)
    first, second, third = stream[:-2], stream[1:-1], stream[2:]
    counted = (third != SEPARATOR) | (second != SEPARATOR)  # a document has one end, not two
    return first[counted], second[counted], third[counted]
