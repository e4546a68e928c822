"""Which training texts share an n-gram with an evaluation item (GPT-3, appendix C).

An n-gram that more than `max_ngram_documents` training texts hold is boilerplate, not
a leak, and is ignored. An item of fewer than `ngram_words` words has no n-gram and is not
looked for.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llm.config.corpus import DecontaminateConfig
from llm.corpus.documents import read_documents, read_shard, text_schema, write_rows
from llm.corpus.ngrams import NgramHasher, split_words
from llm.errors import DataError
from llm.files import read_jsonl

HELDOUT = "heldout"  # the set of the held-out documents, beside sets of other items
ITEMS = "items.parquet"  # set, id, text of those
HITS = "contamination.parquet"

Texts = Iterable[tuple[str, str]]  # (id, text)


@dataclass(frozen=True)
class Items:
    """The n-grams of a set's items: distinct hashes in ascending order, and whose each is."""

    hashes: np.ndarray  # uint64
    starts: np.ndarray  # where the owners of each begin, and of the last end
    owners: np.ndarray  # numbers of the items that have it, in ascending order
    names: list[str]  # item ids

    def owners_of(self, hash_: int) -> list[str]:
        """The items that have an n-gram of these."""
        place = int(np.searchsorted(self.hashes, np.uint64(hash_)))
        return [self.names[n] for n in self.owners[self.starts[place] : self.starts[place + 1]]]


@dataclass(frozen=True)
class Hit:
    """An n-gram of a training text that is an item's too."""

    set_name: str
    document: str
    item: str  # the first that has it
    hash: int
    ngram: str


@dataclass(frozen=True)
class Work:
    """One shard to search."""

    path: Path
    sets: dict[str, Items]
    ngram_words: int
    heldout: frozenset[str]  # ids that are no training documents


def index_items(items: Texts, ngram_words: int) -> Items:
    """Index (id, text) pairs."""
    hasher = NgramHasher(ngram_words)
    names: list[str] = []
    found = [np.empty(0, np.uint64)]
    for name, text in items:
        names.append(name)
        found.append(np.unique(hasher.hashes(split_words(text))))
    owners = np.repeat(np.arange(len(names)), [len(hashes) for hashes in found[1:]])
    every = np.concatenate(found)
    order = np.argsort(every, kind="stable")
    hashes, starts = np.unique(every[order], return_index=True)
    return Items(hashes, np.append(starts, len(every)), owners[order], names)


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
    rows = read_shard(work.path, ("id", "text")).to_pylist()
    texts = ((row["id"], row["text"]) for row in rows if row["id"] not in work.heldout)
    return _search(texts, work.sets, work.ngram_words)


def find_in_texts(texts: Texts, folder: Path, config: DecontaminateConfig) -> list[Hit]:
    """The hits of further training texts, among everything that stage decontaminate looked for."""
    sets = {
        name: index_items(items, config.ngram_words) for name, items in read_sets(folder).items()
    }
    hits = _search(texts, sets, config.ngram_words)
    return every_item(without_boilerplate(hits, config.max_ngram_documents), sets)


def read_sets(folder: Path) -> dict[str, list[tuple[str, str]]]:
    """The (id, text) pairs that stage decontaminate looked for, by set, from what it wrote."""
    rows = read_documents(folder / "heldout", ("id", "text"))
    sets = {HELDOUT: [(row["id"], row["text"]) for row in rows]}
    for row in read_shard(folder / ITEMS).to_pylist():
        sets.setdefault(row["set"], []).append((row["id"], row["text"]))
    return sets


def write_sets(folder: Path, sets: dict[str, list[tuple[str, str]]]) -> None:
    """Write the sets of other items than held-out documents, for `read_sets`."""
    rows = (
        {"set": name, "id": id_, "text": text}
        for name, items in sets.items()
        for id_, text in items
    )
    write_rows(folder / ITEMS, rows, text_schema("set", "id", "text"))


def write_hits(folder: Path, hits: Iterable[Hit]) -> None:
    """Write the table of hits."""
    rows = (
        {"document_id": hit.document, "set": hit.set_name, "item_id": hit.item, "ngram": hit.ngram}
        for hit in hits
    )
    write_rows(folder / HITS, rows, text_schema("document_id", "set", "item_id", "ngram"))


def without_boilerplate(hits: list[Hit], max_ngram_documents: int) -> list[Hit]:
    """The hits of n-grams that few enough documents hold."""
    documents = Counter(hash_ for hash_, _ in {(hit.hash, hit.document) for hit in hits})
    return [hit for hit in hits if documents[hit.hash] <= max_ngram_documents]


def every_item(hits: list[Hit], sets: dict[str, Items]) -> list[Hit]:
    """The first hit of each document and item, of all items that have the n-grams."""
    kept: dict[tuple[str, str, str], Hit] = {}
    for hit in hits:
        for item in sets[hit.set_name].owners_of(hit.hash):
            kept.setdefault((hit.document, hit.set_name, item), replace(hit, item=item))
    return list(kept.values())


def _search(texts: Texts, sets: dict[str, Items], ngram_words: int) -> list[Hit]:
    hasher = NgramHasher(ngram_words)
    hits: list[Hit] = []
    for id_, text in texts:
        words = split_words(text)
        hashes = hasher.hashes(words)
        for name, items in sets.items():
            for position, item in _shared(hashes, items):
                ngram = " ".join(words[position : position + ngram_words])
                hits.append(Hit(name, id_, item, int(hashes[position]), ngram))
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
            yield position, items.names[items.owners[items.starts[place]]]
