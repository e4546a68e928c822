"""Which training documents share an n-gram with an evaluation item (GPT-3, appendix C).

An n-gram that more than `max_ngram_documents` training documents hold is boilerplate, not
a leak, and is ignored. An item of fewer than `ngram_words` words has no n-gram and is not
looked for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm.corpus.documents import read_shard
from llm.corpus.ngrams import NgramHasher, split_words
from llm.errors import DataError
from llm.files import read_jsonl


@dataclass(frozen=True)
class Items:
    """The n-grams of a set's items: distinct hashes in ascending order, and whose each is."""

    hashes: np.ndarray  # uint64
    owners: np.ndarray  # number of the first item that has it
    names: list[str]  # item ids


@dataclass(frozen=True)
class Hit:
    """An n-gram of a training document that is an item's too."""

    set_name: str
    document: str
    item: str
    hash: int
    ngram: str


@dataclass(frozen=True)
class Work:
    """One shard to search."""

    path: Path
    sets: dict[str, Items]
    ngram_words: int
    heldout: frozenset[str]  # ids that are no training documents


def index_items(items: Iterable[tuple[str, str]], ngram_words: int) -> Items:
    """Index (id, text) pairs; an n-gram of several items belongs to the first."""
    hasher = NgramHasher(ngram_words)
    names: list[str] = []
    found = [np.empty(0, np.uint64)]
    for name, text in items:
        names.append(name)
        found.append(hasher.hashes(split_words(text)))
    owners = np.repeat(np.arange(len(names)), [len(hashes) for hashes in found[1:]])
    hashes, first = np.unique(np.concatenate(found), return_index=True)
    return Items(hashes, owners[first], names)


def evaluation_items(path: Path) -> Iterator[tuple[str, str]]:
    """(path:row, text) per row of a JSONL evaluation set: all of the row's strings together."""
    number = 0
    for number, row in enumerate(read_jsonl(path), start=1):
        yield f"{path}:{number}", "\n".join(_strings(row))
    if not number:
        raise DataError(f"decontaminate.evaluation_sets: {path} holds no row; remove it")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def find_hits(work: Work) -> list[Hit]:
    """The hits of one shard's training documents, one per document, set and n-gram."""
    hasher = NgramHasher(work.ngram_words)
    hits: list[Hit] = []
    for row in read_shard(work.path, ("id", "text")).to_pylist():
        if row["id"] in work.heldout:
            continue
        words = split_words(row["text"])
        hashes = hasher.hashes(words)
        for name, items in work.sets.items():
            for position, item in _shared(hashes, items):
                ngram = " ".join(words[position : position + work.ngram_words])
                hits.append(Hit(name, row["id"], item, int(hashes[position]), ngram))
    return hits


def _shared(hashes: np.ndarray, items: Items) -> Iterator[tuple[int, str]]:
    """Position and item of the first occurrence of each hash that is an item's."""
    if not len(items.hashes):
        return
    places = np.minimum(np.searchsorted(items.hashes, hashes), len(items.hashes) - 1)
    shared = np.flatnonzero(items.hashes[places] == hashes)
    seen: set[int] = set()
    for position, place in zip(shared.tolist(), places[shared].tolist(), strict=True):
        if place not in seen:
            seen.add(place)
            yield position, items.names[items.owners[place]]


def without_boilerplate(hits: list[Hit], max_ngram_documents: int) -> list[Hit]:
    """The first hit of each document and item, of n-grams that few enough documents hold."""
    documents = Counter(hash_ for hash_, _ in {(hit.hash, hit.document) for hit in hits})
    kept: dict[tuple[str, str], Hit] = {}
    for hit in hits:
        if documents[hit.hash] <= max_ngram_documents:
            kept.setdefault((hit.document, hit.item), hit)
    return list(kept.values())
