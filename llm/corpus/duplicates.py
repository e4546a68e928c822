"""Which documents are duplicates, by passes over shards whose results lie in files between them.

    sign_shard   keys of a shard's documents: of the exact text, of each band, of each unit
    find_pairs   documents of equal keys, of one table and one range of keys

No pass needs more in memory than a shard and `dedup.memory_bytes`. What a pass has written
is not made again, so that a stopped run goes on.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from llm.config.corpus import DedupConfig
from llm.corpus.boilerplate import shared_units, unit_keys
from llm.corpus.clusters import BLOCK, allocate, map_array
from llm.corpus.columns import as_numpy, text_column
from llm.corpus.documents import read_shard, text_bytes
from llm.corpus.key_ranges import ENTRY_BYTES, Layout, equal_pairs
from llm.corpus.minhash import band_keys
from llm.corpus.words import range_hashes, split_words
from llm.files import write_file

EXACT = 0  # the table of whole texts; those of the bands follow, then that of units
ID_BYTES = 40


@dataclass(frozen=True)
class Plan:
    """What every pass knows."""

    folder: Path  # of the files in between
    documents: int
    config: DedupConfig

    @property
    def layout(self) -> Layout:
        """How keys are split."""
        tables = 1 + self.config.bands + self.finds_boilerplate
        return Layout.fitting(tables, self.documents, self.config.memory_bytes)

    @property
    def finds_boilerplate(self) -> bool:
        """Whether units are looked at."""
        return self.config.boilerplate.max_documents > 0

    @property
    def ids(self) -> Path:
        """The ids of all documents, 40 bytes each."""
        return self.folder / "ids"

    @property
    def lengths(self) -> Path:
        """The bytes of each document's text, int64."""
        return self.folder / "lengths"

    def pairs(self, table: int, range_: int) -> Path:
        """Pairs of documents, (pairs, 2) int64."""
        return self.folder / "pairs" / f"{table:05d}-{range_:05d}"

    def shared(self, range_: int) -> Path:
        """Units that too many documents share, (3, units) uint64."""
        return self.folder / "shared" / f"{range_:05d}"

    def prepare(self) -> None:
        """Make the folder, or keep what a stopped run left there."""
        for name in ("keys", "pairs", "shared"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        allocate(self.ids, self.documents * ID_BYTES)
        allocate(self.lengths, self.documents * 8)


@dataclass(frozen=True)
class Shard:
    """A shard, and the number of its first document."""

    path: Path
    first: int
    plan: Plan


@dataclass(frozen=True)
class Range:
    """One range of one table of keys."""

    plan: Plan
    table: int
    number: int


def sign_shard(shard: Shard) -> None:
    """Write the keys, ids and lengths of a shard's documents."""
    plan, config = shard.plan, shard.plan.config
    out = plan.folder / "keys" / shard.path.name
    if out.exists():
        return
    rows = read_shard(shard.path, ("id", "text", "meta")).combine_chunks()
    texts = compared_texts(rows)
    exact, bands = [np.zeros(0, np.uint64)], [np.zeros((config.bands, 0), np.uint64)]
    for words in split_words(texts):
        exact.append(range_hashes(words))
        bands.append(band_keys(words, config))
    documents = np.arange(shard.first, shard.first + rows.num_rows)
    tables = [np.concatenate(exact), *np.concatenate(bands, axis=1)]
    keyed = [(keys, documents) for keys in tables]
    if plan.finds_boilerplate:
        keyed.append(unit_keys(texts, config.boilerplate, shard.first))
    ids = np.array([id_.encode() for id_ in rows["id"].to_pylist()], f"S{ID_BYTES}")
    _put(plan.ids, shard.first * ID_BYTES, ids)
    _put(plan.lengths, shard.first * 8, text_bytes(rows["text"]).astype(np.int64))
    plan.layout.write(out, keyed)


def compared_texts(rows: pa.Table) -> pa.Array:
    """What identifies each document: its text, or of a documented object the docstring alone."""
    texts = rows["text"].to_pylist()
    documented = pc.call_function(
        "match_substring", [rows["meta"]], pc.MatchSubstringOptions('"doc": ')
    )
    metas = rows["meta"].to_pylist()
    for number in np.flatnonzero(as_numpy(documented)):
        texts[number] = orjson.loads(metas[number]).get("doc") or texts[number]
    return text_column(texts)


def find_pairs(range_: Range) -> None:
    """Write the pairs of documents that have an equal key."""
    plan = range_.plan
    out = plan.pairs(range_.table, range_.number)
    if out.exists():
        return
    shards = plan.layout.read(_key_files(plan), range_.table, range_.number)
    with write_file(out) as partial, partial.open("wb") as file:
        for ones, others in equal_pairs(shards, plan.config.memory_bytes // ENTRY_BYTES):
            file.write(np.stack([ones, others], axis=1).data)


def read_pairs(plan: Plan, table: int) -> Iterator[np.ndarray]:
    """The pairs of a table, (pairs, 2), some at a time."""
    for number in range(plan.layout.ranges):
        with plan.pairs(table, number).open("rb") as file:
            while len(pairs := np.fromfile(file, np.int64, 2 * BLOCK)):
                yield pairs.reshape(-1, 2)


def find_shared(range_: Range) -> None:
    """Write the units that too many of the kept documents have."""
    plan = range_.plan
    kept = map_array(plan.folder / "near.kept", plan.documents, np.int64)
    shards = plan.layout.read(_key_files(plan), range_.table, range_.number)
    shared = shared_units(shards, kept, plan.config.boilerplate.max_documents)
    with write_file(plan.shared(range_.number)) as partial, partial.open("wb") as file:
        file.write(np.ascontiguousarray(shared).data)


def read_shared(plan: Plan) -> np.ndarray:
    """All of them, (3, units), in order of hash."""
    ranges = [plan.shared(number) for number in range(plan.layout.ranges)]
    return np.concatenate([np.fromfile(path, np.uint64).reshape(3, -1) for path in ranges], axis=1)


def read_ids(plan: Plan, documents: np.ndarray) -> list[str]:
    """The id of each of these documents; the others' are not read."""
    with plan.ids.open("rb", buffering=0) as file:
        read = (os.pread(file.fileno(), ID_BYTES, int(n) * ID_BYTES) for n in documents)
        return [id_.rstrip(b"\0").decode() for id_ in read]


def _key_files(plan: Plan) -> list[Path]:
    return sorted((plan.folder / "keys").iterdir())


def _put(path: Path, offset: int, values: np.ndarray) -> None:
    """Write into a file that several processes fill, each its own part."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(np.ascontiguousarray(values).data)
