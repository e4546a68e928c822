"""An order-2 byte model: the baseline that a language model of the same text must beat.

The next byte given the two before it, interpolated down to orders 1 and 0 and the uniform
distribution by Witten-Bell (Witten and Bell 1991; Chen and Goodman 1998, 2.4). A context
seen N times, with T distinct followers, keeps N / (N + T) of its own counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SEPARATOR = 0  # ends a document, and is what comes before one; no text holds it


@dataclass(frozen=True)
class Triples:
    """How often each byte follows each two: what the model needs to know of a text."""

    codes: np.ndarray  # uint32: two before, before, byte; ascending
    counts: np.ndarray  # int64

    @classmethod
    def none(cls) -> "Triples":
        """Those of no text."""
        return cls(np.empty(0, np.uint32), np.empty(0, np.int64))

    def __add__(self, other: "Triples") -> "Triples":
        codes, places = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Triples(codes, counts)


def count_triples(texts: Iterable[str]) -> Triples:
    """The triples of the texts' bytes and of their ends."""
    joined = bytes(2) + b"".join(text.encode() + bytes(2) for text in texts)
    stream = np.frombuffer(joined, np.uint8)
    second, third = stream[1:-1], stream[2:]
    counted = (third != SEPARATOR) | (second != SEPARATOR)  # a document has one end, not two
    codes = stream[:-2].astype(np.uint32)
    for after in (second, third):
        codes <<= 8
        codes |= after
    return Triples(*np.unique(codes[counted], return_counts=True))


class ByteModel:
    """Counts of byte triples, and the bits they need for another text."""

    def __init__(self) -> None:
        self._triples = np.zeros(256**3, np.int64)

    def add(self, triples: Triples) -> None:
        """Learn from a text."""
        self._triples[triples.codes] += triples.counts

    def bits(self, text: Triples) -> float:
        """Bits that a text and its end take."""
        first, second, third = (text.codes >> shift & 0xFF for shift in (16, 8, 0))
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
        return float(-(text.counts * np.log2(chances)).sum())


def _interpolate(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Witten-Bell over the last axis: a context never seen takes the lower order as it is."""
    total = counts.sum(axis=-1, keepdims=True)
    kinds = (counts > 0).sum(axis=-1, keepdims=True)
    return np.where(total > 0, (counts + kinds * lower) / np.maximum(total + kinds, 1), lower)
