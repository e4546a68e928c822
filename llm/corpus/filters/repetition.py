"""Repeated words of each text (Gopher; Rae et al. 2021, table A1), by sorting hashes of n-grams.

An n-gram can only repeat where its first and its last n-1 words do, so each n looks at
what is left of the last: most words are looked at twice or three times, not nine times.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llm.corpus.filters.characters import Characters, Hashes, Ints, Spans, mix

TOP = (2, 3, 4)  # n of the most frequent n-gram
DUPLICATE = (5, 6, 7, 8, 9, 10)  # n of n-grams seen before


def repetition(characters: Characters, words: Spans) -> dict[str, Ints]:
    """Characters of each text in repeated n-grams: columns `top_<n>gram` and `dup_<n>gram`.

    `top`: the most frequent n-gram's characters, spaces between its words included, times
    how often it occurs; 0 when none occurs twice; the first of equally frequent ones.
    `dup`: characters of the words that some n-gram covers which occurred before in the text,
    each once.
    """
    found: dict[str, Ints] = {}
    for n, groups in _repeated(characters, words):
        if n in TOP:
            found[f"top_{n}gram"] = _top(characters, words, groups, n)
        else:
            found[f"dup_{n}gram"] = _duplicate(characters, words, groups, n)
    return found


class Groups:
    """Positions of equal keys that occur more than once; positions of a key are in order."""

    def __init__(self, keys: Hashes, positions: Ints) -> None:
        """Of the keys at some positions.

        Keys that are alone in their bucket are left out before the sort, which is what takes time.
        """
        bits = max(8, len(keys).bit_length() + 1)
        buckets = (keys >> np.uint64(64 - bits)).astype(np.int64)
        shared = np.bincount(buckets, minlength=1 << bits)[buckets] > 1
        keys, positions = keys[shared], positions[shared]
        order = np.argsort(keys, kind="stable")
        keys, positions = keys[order], positions[order]
        same = keys[1:] == keys[:-1]
        after, before = np.append(False, same), np.append(same, False)
        many = (after | before)[: len(keys)]
        self.positions = positions[many]
        self.again = after[: len(keys)][many]  # not a key's first position

    @property
    def seen(self) -> Ints:
        """Positions whose key is at an earlier one, too."""
        return self.positions[self.again]


def seen_before(characters: Characters, spans: Spans) -> NDArray[np.bool_]:
    """Which spans occurred earlier in the same text."""
    keys = _in_text(characters.hashes(spans), spans)
    seen = np.zeros(len(spans), np.bool_)
    seen[Groups(keys, np.arange(len(spans))).seen] = True
    return seen


def _in_text(hashes: Hashes, spans: Spans) -> Hashes:
    """Hashes that differ between texts."""
    return mix(hashes ^ mix(spans.owner.astype(np.uint64) + np.uint64(1)))


def _repeated(characters: Characters, words: Spans) -> Iterator[tuple[int, Groups]]:
    """For each n, the n-grams that a text has more than once, as positions of their first words."""
    word_keys = characters.hashes(words)
    keys = _in_text(word_keys, words)  # of the n-gram at each word, where it is up to date
    positions = np.arange(len(words))
    for n in range(2, max(DUPLICATE) + 1):
        positions = positions[positions + n <= len(words)]
        last = positions + n - 1
        inside = words.owner[last] == words.owner[positions]
        positions, last = positions[inside], last[inside]
        keys[positions] = mix(keys[positions] * np.uint64(3) + word_keys[last])
        groups = Groups(keys[positions], positions)
        yield n, groups
        repeated = np.zeros(len(words) + 1, np.bool_)
        repeated[groups.positions] = True
        positions = np.flatnonzero(repeated[:-1] & repeated[1:])  # the n-gram after it as well


def _top(characters: Characters, words: Spans, groups: Groups, n: int) -> Ints:
    top = np.zeros(len(characters), np.int64)
    first = np.flatnonzero(~groups.again)
    counts = np.diff(first, append=len(groups.again))
    positions = groups.positions[first]
    owner = words.owner[positions]
    order = np.lexsort((-positions, counts, owner))  # the last of each text is its top
    is_last = np.diff(owner[order], append=-1) != 0
    best = order[is_last]
    letters = np.append(0, np.cumsum(words.lengths))
    at = positions[best]
    top[owner[best]] = counts[best] * (letters[at + n] - letters[at] + n - 1)
    return top


def _duplicate(characters: Characters, words: Spans, groups: Groups, n: int) -> Ints:
    seen = groups.seen
    size = len(words) + 1
    edges = np.bincount(seen, minlength=size) - np.bincount(seen + n, minlength=size)
    covered = np.cumsum(edges)[:-1] > 0
    return characters.per_text(words, words.lengths * covered)
