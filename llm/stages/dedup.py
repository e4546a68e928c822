"""Stage dedup: drop all but the first of documents with the same or nearly the same text.

Reads    data/filter/kept             documents: id, source, url, text, language, meta
Writes   data/dedup/kept              the documents without later members of a cluster
         data/dedup/clusters.parquet  id (dropped), kept_id, kind (`exact` or `near`)
Metrics  dedup.json                   documents_in, documents_kept, bytes_kept, exact, near,
                                      clusters (of two or more), kept by source

A documented object is compared by its docstring alone: one that was inherited or copied
under another heading teaches nothing new.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from llm.cluster import map_shards
from llm.config.corpus import DedupConfig
from llm.corpus.documents import (
    Row,
    count_by_source,
    read_shard,
    shard_paths,
    text_schema,
    write_rows,
    write_table,
)
from llm.corpus.minhash import Clusters, band_keys, exact_hash, join_equal, words
from llm.files import write_dir
from llm.process import Context, main

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Signed:
    """What identifies the documents of one shard."""

    ids: list[str]
    exact: list[str]
    keys: np.ndarray  # (documents, bands)


def run(ctx: Context, *, dedup: DedupConfig) -> dict[str, Any]:
    """Drop duplicates over all shards; returns the stage's metrics."""
    paths = shard_paths(ctx.paths.stage("filter") / "kept")
    signed = []
    for shard in map_shards(sign_shard, [(path, dedup) for path in paths], ctx):
        signed.append(shard)
        logger.info("%d of %d shards signed", len(signed), len(paths))
    ids = [id_ for shard in signed for id_ in shard.ids]
    firsts = _exact_firsts([exact for shard in signed for exact in shard.exact])
    clusters = _near_clusters(firsts, np.concatenate([shard.keys for shard in signed]))
    dropped = list(_dropped(ids, firsts, clusters))
    with write_dir(ctx.out) as partial:
        bytes_kept = _write_kept(paths, {row["id"] for row in dropped}, partial / "kept")
        schema = text_schema("id", "kept_id", "kind")
        write_rows(partial / "clusters.parquet", dropped, schema)
        by_source = count_by_source(partial / "kept")
    return {
        "documents_in": len(ids),
        "documents_kept": len(ids) - len(dropped),
        "bytes_kept": bytes_kept,
        "exact": sum(row["kind"] == "exact" for row in dropped),
        "near": sum(row["kind"] == "near" for row in dropped),
        "clusters": len({row["kept_id"] for row in dropped}),
        "by_source": by_source,
    }


def sign_shard(work: tuple[Path, DedupConfig]) -> Signed:
    """The ids, exact hashes and band keys of one shard."""
    path, config = work
    rows = read_shard(path, ("id", "text", "meta")).to_pylist()
    texts = [words(json.loads(row["meta"]).get("doc") or row["text"]) for row in rows]
    exact = [exact_hash(text) for text in texts]
    return Signed([row["id"] for row in rows], exact, band_keys(texts, config))


def _exact_firsts(hashes: list[str]) -> list[int]:
    """Per document, the first document with the same hash."""
    first: dict[str, int] = {}
    return [first.setdefault(hash_, number) for number, hash_ in enumerate(hashes)]


def _near_clusters(firsts: list[int], keys: np.ndarray) -> Clusters:
    """Clusters of the exact firsts, band by band: one band's keys at a time are sorted."""
    clusters = Clusters(len(firsts))
    items = np.array([item for item, first in enumerate(firsts) if item == first], np.int64)
    for band in range(keys.shape[1]):
        join_equal(clusters, keys[items, band], items)
    return clusters


def _dropped(ids: list[str], firsts: list[int], clusters: Clusters) -> Iterator[Row]:
    """The documents that are not the first of their cluster, in order."""
    for item, first in enumerate(firsts):
        kept = clusters.root(first)
        if kept != item:
            kind = "near" if first == item else "exact"
            yield {"id": ids[item], "kept_id": ids[kept], "kind": kind}


def _write_kept(paths: list[Path], dropped: set[str], folder: Path) -> int:
    """Write the shards without the dropped documents; returns the bytes of text kept."""
    size = 0
    for path in paths:
        table = read_shard(path)
        mask = [id_ not in dropped for id_ in table["id"].to_pylist()]
        kept = table.filter(pa.array(mask, pa.bool_()))
        size += sum(len(text.encode()) for text in kept["text"].to_pylist())
        write_table(folder / path.name, kept)
    return size


if __name__ == "__main__":
    main("dedup", run, dedup=DedupConfig)
