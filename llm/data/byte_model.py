"""An order-2 byte model: the baseline that a language model of the same text must beat.

The next byte given the two before it, interpolated down to orders 1 and 0 and the uniform
distribution by Witten-Bell (Witten and Bell 1991; Chen and Goodman 1998, 2.4). A context
seen N times, with T distinct followers, keeps N / (N + T) of its own counts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

COUNTED_BYTES = 1 << 20  # at a time, beside the end of a text
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

    def of(self, codes: np.ndarray) -> np.ndarray:
        """How often each of these is there."""
        if not len(self.codes):
            return np.zeros(len(codes), np.int64)
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[places] == codes, self.counts[places], 0)

    def __add__(self, other: "Triples") -> "Triples":
        codes, places = np.unique(np.concatenate([self.codes, other.codes]), return_inverse=True)
        counts = np.zeros(len(codes), np.int64)
        np.add.at(counts, places, np.concatenate([self.counts, other.counts]))
        return Triples(codes, counts)


def count_triples(texts: Iterable[str]) -> Triples:
    """The triples of the texts' bytes and of their ends."""
    total, held, held_bytes = Triples.none(), [], 0
    for text in texts:
        held.append(text.encode() + bytes(2))
        held_bytes += len(held[-1])
        if held_bytes >= COUNTED_BYTES:
            total += _count(held)
            held, held_bytes = [], 0
    return total + _count(held)


def _count(ended: list[bytes]) -> Triples:
    stream = np.frombuffer(bytes(2) + b"".join(ended), np.uint8)
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
        self._learnt = Triples.none()

    def add(self, triples: Triples) -> None:
        """Learn from a text."""
        self._learnt += triples

    def bits(self, text: Triples) -> float:
        """Bits that a text and its end take."""
        learnt = self._learnt
        first, second, third = (text.codes >> shift & 0xFF for shift in (16, 8, 0))
        pairs = _sums(learnt.codes & 0xFFFF, learnt.counts).reshape(256, 256)
        order_0 = _interpolate(pairs.sum(axis=0), np.full(256, 1 / 256))  # (byte,)
        order_1 = _interpolate(pairs, np.broadcast_to(order_0, (256, 256)))  # (before, byte)
        totals = _sums(learnt.codes >> 8, learnt.counts)  # (two before * 256 + before,)
        kinds = _sums(learnt.codes >> 8, np.ones_like(learnt.counts))
        seen = totals[first << 8 | second]
        spread = kinds[first << 8 | second]
        lower = order_1[second, third]
        weighted = learnt.of(text.codes) + spread * lower
        chances = np.where(seen > 0, weighted / np.maximum(seen + spread, 1), lower)
        return float(-(text.counts * np.log2(chances)).sum())


def _sums(pairs: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of the counts of each pair of bytes, (65536,) int64."""
    sums = np.zeros(256**2, np.int64)
    np.add.at(sums, pairs, counts)
    return sums


def _interpolate(counts: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Witten-Bell over the last axis: a context never seen takes the lower order as it is."""
    total = counts.sum(axis=-1, keepdims=True)
    kinds = (counts > 0).sum(axis=-1, keepdims=True)
    return np.where(total > 0, (counts + kinds * lower) / np.maximum(total + kinds, 1), lower)
