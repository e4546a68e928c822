"""Stage decontaminate: hold documents out for evaluation, and keep their text out of training.

Reads    data/dedup/kept                           documents: id, source, url, text, language, meta
         benchmark.tasks                           items of every task not made of held-out documents
         decontaminate.evaluation_sets             JSONL; every string of a row counts
Writes   data/decontaminate/kept                   documents to train on
         data/decontaminate/heldout                all documents of the held-out top-level objects
         data/decontaminate/items.parquet          set, id, text of the tasks' and sets' items
         data/decontaminate/contamination.parquet  document_id, set, item_id, ngram (the first shared)
Metrics  decontaminate.json                        documents_in (= documents_kept + heldout +
                                                   dropped), bytes_kept, contaminated, items and
                                                   hits (documents) per set, kept and heldout
                                                   by source

A top-level object is a module's class or function with all that is in it, its docstring
alone for a module, and else the document itself; a share `heldout_frac` of them is held
out by hash. A set is `heldout`, a task by its name, or an evaluation set by its path.
"""

import json
import logging
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from evals.task_files import local_files, made_of_heldout
from llm.cluster.pool import map_shards
from llm.config.corpus import DecontaminateConfig
from llm.config.tasks import TaskNames
from llm.corpus.contamination import (
    HELDOUT,
    Hit,
    Work,
    evaluation_items,
    every_item,
    find_hits,
    index_items,
    without_boilerplate,
    write_hits,
    write_sets,
)
from llm.corpus.documents import (
    Row,
    count_by_source,
    hash_fraction,
    read_documents,
    read_shard,
    shard_paths,
    write_table,
)
from llm.errors import DataError
from llm.files import write_dir
from llm.process import Context, main, warn_of_unwatched

Items = list[tuple[str, str]]  # (id, text)

logger = logging.getLogger(__name__)


@dataclass
class Counts:
    """What became of the documents."""

    documents_in: int = 0
    documents_kept: int = 0
    bytes_kept: int = 0


def run(
    ctx: Context, *, decontaminate: DecontaminateConfig, benchmark: TaskNames
) -> dict[str, Any]:
    """Split and clean every shard; returns the stage's metrics."""
    sets = _task_items(benchmark.tasks)
    sets |= {name: list(evaluation_items(Path(name))) for name in decontaminate.evaluation_sets}
    warn_of_unwatched(ctx, [*local_files(benchmark.tasks), *decontaminate.evaluation_sets])
    folder = ctx.paths.stage("dedup") / "kept"
    heldout = _heldout(folder, decontaminate.heldout_frac)
    hits = _hits(ctx, folder, {HELDOUT: list(heldout.items()), **sets}, decontaminate)
    contaminated = {hit.document for hit in hits}
    dropped = contaminated if decontaminate.drop else set()
    with write_dir(ctx.out) as partial:
        counts = _write_shards(shard_paths(folder), heldout.keys(), dropped, partial)
        write_hits(partial, hits)
        write_sets(partial, sets)
        by_source = count_by_source(partial / "kept")
        heldout_by_source = count_by_source(partial / "heldout")
    return {
        "documents_in": counts.documents_in,
        "documents_kept": counts.documents_kept,
        "bytes_kept": counts.bytes_kept,
        "heldout": len(heldout),
        "contaminated": len(contaminated),
        "dropped": len(dropped),
        "items": {name: len(items) for name, items in sets.items()},
        "hits": {
            name: len({hit.document for hit in hits if hit.set_name == name})
            for name in (HELDOUT, *sets)
        },
        "by_source": by_source,
        "heldout_by_source": heldout_by_source,
    }


def top_level_object(row: Row) -> str:
    """What a document is held out together with."""
    return json.loads(row["meta"]).get("top", row["id"])


def _task_items(names: list[str]) -> dict[str, Items]:
    """The items of the tasks that are not made of held-out documents, which count by themselves."""
    heldout = made_of_heldout()
    others = [name for name in names if name not in heldout]
    if not others:
        return {}
    from evals.catalogue import find_tasks, read_items  # lm-eval takes seconds to import

    tasks = find_tasks(others, {})
    items = {name: list(read_items(name, task)) for name, task in tasks.items()}
    for name, rows in items.items():
        logger.info("%s: %d items to keep out of training", name, len(rows))
    return items


def _heldout(folder: Path, heldout_frac: float) -> dict[str, str]:
    """Text by id of the documents whose top-level object's hash is below the share."""
    heldout = {
        row["id"]: row["text"]
        for row in read_documents(folder, ("id", "text", "meta"))
        if hash_fraction(f"heldout {top_level_object(row)}") < heldout_frac
    }
    if not heldout:
        raise DataError(
            f"decontaminate.heldout_frac={heldout_frac} holds out no document of this corpus; "
            "raise it or gather more documents"
        )
    return heldout


def _hits(
    ctx: Context,
    folder: Path,
    sets: dict[str, Items],
    config: DecontaminateConfig,
) -> list[Hit]:
    """The hits of all training documents, boilerplate left out."""
    indexed = {name: index_items(items, config.ngram_words) for name, items in sets.items()}
    held = frozenset(name for name, _ in sets[HELDOUT])
    work = [Work(path, indexed, config.ngram_words, held) for path in shard_paths(folder)]
    hits: list[Hit] = []
    for number, found in enumerate(map_shards(find_hits, work, ctx), start=1):
        hits += found
        logger.info("%d of %d shards searched", number, len(work))
    return every_item(without_boilerplate(hits, config.max_ngram_documents), indexed)


def _write_shards(paths: list[Path], heldout: Set[str], dropped: Set[str], folder: Path) -> Counts:
    """Write the kept and the held-out documents of every shard."""
    counts = Counts()
    for path in paths:
        table = read_shard(path)
        ids = table["id"].to_pylist()
        held = pa.array([id_ in heldout for id_ in ids], pa.bool_())
        keep = pa.array([id_ not in heldout and id_ not in dropped for id_ in ids], pa.bool_())
        kept = table.filter(keep)
        write_table(folder / "kept" / path.name, kept)
        write_table(folder / "heldout" / path.name, table.filter(held))
        counts.documents_in += table.num_rows
        counts.documents_kept += kept.num_rows
        counts.bytes_kept += sum(len(text.encode()) for text in kept["text"].to_pylist())
    return counts


if __name__ == "__main__":
    main("decontaminate", run, decontaminate=DecontaminateConfig, benchmark=TaskNames)
