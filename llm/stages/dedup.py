"""Stage dedup: one of each cluster of documents with the same or nearly the same text stays.

Reads    data/filter/kept               documents: id, source, url, text, language, meta
Writes   data/dedup/kept                the documents that stay, without boilerplate
         data/dedup/clusters.parquet    id (dropped), kept_id, kind: `exact`, `near`, or
                                        `boilerplate` (nothing else was in it; no kept_id)
         data/dedup/boilerplate.parquet text, documents (that have it)
Metrics  dedup.json                     documents_in, documents_kept, bytes_kept, exact, near,
                                        clusters (of two or more), boilerplate: units, documents
                                        changed and emptied, bytes; kept by source; threshold and
                                        the probability that similar texts are found

A documented object is compared by its docstring alone: one that was inherited or copied
under another heading teaches nothing new. Boilerplate is what many of the documents that
stay have in common, so that copies of one document make none.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from llm.cluster.pool import Pool, open_pool
from llm.config.corpus import DedupConfig
from llm.corpus.boilerplate import first_texts, without_units
from llm.corpus.clusters import Clusters, blocks, map_array, open_array
from llm.corpus.columns import empty_table, number_column, text_column
from llm.corpus.documents import (
    dump_meta,
    read_shard,
    shard_paths,
    shard_size,
    text_bytes,
    text_schema,
    write_table,
)
from llm.corpus.duplicates import (
    EXACT,
    Plan,
    Range,
    Shard,
    compared_texts,
    find_pairs,
    find_shared,
    read_ids,
    read_pairs,
    read_shared,
    sign_shard,
)
from llm.corpus.minhash import probability, threshold
from llm.files import write_dir
from llm.process import Context, main

CLUSTERS = text_schema("id", "kept_id", "kind")
BOILERPLATE = text_schema("text", "documents")
SIMILARITIES = (50, 60, 70, 80, 90)  # percent

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One shard to write."""

    path: Path
    out: Path  # the stage's folder
    shard: Shard


@dataclass(frozen=True)
class Written:
    """What became of one shard."""

    counts: Counter[str]  # documents by what became of them; bytes
    sources: Counter[str]  # of the kept documents
    dropped: pa.Table
    boilerplate: pa.Table


def run(ctx: Context, *, dedup: DedupConfig) -> dict[str, Any]:
    """Drop duplicates over all shards; returns the stage's metrics."""
    shards = _shards(ctx, dedup)
    plan = shards[0].plan
    chances = {f"similarity_{n}": round(probability(n / 100, dedup), 4) for n in SIMILARITIES}
    logger.info("probability that texts so similar (percent) are found: %s", chances)
    with open_pool(ctx) as pool:
        _each(pool, sign_shard, shards)
        layout = plan.layout
        near = range(EXACT + 1, EXACT + 1 + dedup.bands)
        tables = [Range(plan, t, r) for t in (EXACT, *near) for r in range(layout.ranges)]
        _each(pool, find_pairs, tables)
        clusters = _find_clusters(plan, near)
        if plan.finds_boilerplate:
            last = layout.tables - 1
            _each(pool, find_shared, [Range(plan, last, r) for r in range(layout.ranges)])
        with write_dir(ctx.out) as partial:
            work = [Work(shard.path, partial, shard) for shard in shards]
            counts, sources = _write(pool, work, partial)
    shutil.rmtree(ctx.work, ignore_errors=True)
    return {
        "documents_in": plan.documents,
        "documents_kept": counts["kept"],
        "bytes_kept": counts["bytes"],
        "exact": counts["exact"],
        "near": counts["near"],
        "clusters": clusters,
        "boilerplate": {
            key: counts[f"boilerplate_{key}"] for key in ("units", "changed", "emptied", "bytes")
        },
        "by_source": dict(sorted(sources.items())),
        "threshold": round(threshold(dedup), 4),
        "found": chances,
    }


def write_shard(work: Work) -> Written:
    """Write one shard's documents that stay, and tell of the others."""
    plan, first = work.shard.plan, work.shard.first
    rows = read_shard(work.path)
    numbers = np.arange(first, first + rows.num_rows)
    near, exact = (
        np.fromfile(plan.folder / f"{name}.kept", np.int64, rows.num_rows, offset=8 * first)
        for name in ("near", "exact")
    )
    stays = near == numbers
    kept = rows.filter(number_column(stays))
    kinds = np.where(exact[~stays] == numbers[~stays], "near", "exact")
    columns = (read_ids(plan, numbers[~stays]), read_ids(plan, near[~stays]), kinds.tolist())
    dropped = pa.table([text_column(each) for each in columns], CLUSTERS)
    counts = Counter(kinds.tolist())
    boilerplate = empty_table(BOILERPLATE)
    if plan.finds_boilerplate:
        shared = read_shared(plan)
        boilerplate = _boilerplate(rows, work.shard, shared)
        kept, emptied = _clean(kept, plan.config, shared[0], counts)
        dropped = pa.concat_tables([dropped, emptied])
    counts["kept"] = kept.num_rows
    counts["bytes"] = int(text_bytes(kept["text"]).sum())
    counts["boilerplate_units"] = boilerplate.num_rows
    write_table(work.out / "kept" / work.path.name, kept)
    return Written(counts, Counter(kept["source"].to_pylist()), dropped, boilerplate)


def _shards(ctx: Context, config: DedupConfig) -> list[Shard]:
    """The shards, their documents numbered through."""
    paths = shard_paths(ctx.paths.stage("filter") / "kept")
    sizes = [shard_size(path) for path in paths]
    firsts = np.cumsum([0, *sizes]).tolist()
    plan = Plan(ctx.work, firsts.pop(), config)
    plan.prepare()
    return [Shard(path, first, plan) for path, first in zip(paths, firsts, strict=True)]


def _each(pool: Pool, function: Any, items: list[Any]) -> None:
    """Map for what the function writes."""
    for _ in pool.map(function, items):
        pass
    logger.info("%s: %d done", function.__name__, len(items))


def _find_clusters(plan: Plan, near: range) -> int:
    """Write which document stays for each; returns the number of clusters of two or more."""
    lengths = None
    if plan.config.keep == "longest":
        lengths = map_array(plan.lengths, plan.documents, np.int64)
    for name, tables in (("exact", (EXACT,)), ("near", near)):
        clusters = Clusters(plan.folder / name, plan.documents)
        for table in tables:
            for pairs in read_pairs(plan, table):
                clusters.join(pairs[:, 0], pairs[:, 1])
        kept = clusters.keepers(lengths)
    return _count_clusters(plan, kept)


def _count_clusters(plan: Plan, kept: np.ndarray) -> int:
    has_others = open_array(plan.folder / "has_others", plan.documents, np.bool_)
    for first, last in blocks(plan.documents):
        numbers = np.arange(first, last)
        has_others[kept[first:last][kept[first:last] != numbers]] = True
    return int(np.count_nonzero(has_others))


def _boilerplate(rows: pa.Table, shard: Shard, shared: np.ndarray) -> pa.Table:
    """What is taken out and is first met in this shard."""
    config = shard.plan.config.boilerplate
    found = list(first_texts(compared_texts(rows), config, shared, shard.first))
    columns = [text_column(text for text, _ in found), text_column(str(n) for _, n in found)]
    return pa.table(columns, BOILERPLATE)


def _clean(
    kept: pa.Table, config: DedupConfig, shared: np.ndarray, counts: Counter[str]
) -> tuple[pa.Table, pa.Table]:
    """The documents without boilerplate, and of those in which nothing is left what to tell."""
    texts = kept["text"].combine_chunks()
    clean = without_units(texts, config.boilerplate, shared)
    before, after = text_bytes(kept["text"]), text_bytes(pa.chunked_array([clean]))
    changed = before != after
    metas = kept["meta"].to_pylist()
    for number in np.flatnonzero(changed):
        metas[number] = _clean_meta(metas[number], config, shared)
    cleaned = kept.set_column(kept.schema.get_field_index("text"), "text", clean)
    cleaned = cleaned.set_column(kept.schema.get_field_index("meta"), "meta", text_column(metas))
    emptied = after == 0
    counts["boilerplate_changed"] = int(np.count_nonzero(changed & ~emptied))
    counts["boilerplate_emptied"] = int(np.count_nonzero(emptied))
    counts["boilerplate_bytes"] = int((before - after).sum())
    ids = kept["id"].filter(number_column(emptied)).combine_chunks()
    kinds = text_column(["boilerplate"] * len(ids))
    told = pa.table([ids, pa.nulls(len(ids), pa.string()), kinds], CLUSTERS)
    return cleaned.filter(number_column(~emptied)), told


def _clean_meta(meta: str, config: DedupConfig, shared: np.ndarray) -> str:
    """A documented object's docstring without boilerplate as well."""
    values = orjson.loads(meta)
    if not values.get("doc"):
        return meta
    (clean,) = without_units(text_column([values["doc"]]), config.boilerplate, shared).to_pylist()
    return dump_meta(values | {"doc": clean})


def _write(pool: Pool, work: list[Work], folder: Path) -> tuple[Counter[str], Counter[str]]:
    """Write all shards and the two tables; returns the counts and the kept documents by source."""
    counts, sources = Counter[str](), Counter[str]()
    written = _counted(pool.map(write_shard, work), counts, sources)
    with (
        pq.ParquetWriter(folder / "clusters.parquet", CLUSTERS, compression="zstd") as clusters,
        pq.ParquetWriter(folder / "boilerplate.parquet", BOILERPLATE, compression="zstd") as shared,
    ):
        for each in written:
            clusters.write_table(each.dropped)
            shared.write_table(each.boilerplate)
    return counts, sources


def _counted(
    written: Iterator[Written], counts: Counter[str], sources: Counter[str]
) -> Iterator[Written]:
    for each in written:
        counts.update(each.counts)
        sources.update(each.sources)
        logger.info("%d documents kept", counts["kept"])
        yield each


if __name__ == "__main__":
    main("dedup", run, dedup=DedupConfig)
