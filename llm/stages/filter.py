"""Stage filter: drop documents that fail a quality rule, and say which and by how much.

Reads    data/extract            documents: id, source, url, text, language, meta
Writes   data/filter/kept        the documents that pass every rule, cut and masked as asked
         data/filter/rejected    id, source, rule (the first that failed), value (measured)
Metrics  filter.json             documents_in, documents_kept, bytes_kept, dropped by rule,
                                 kept by source, lines_cut (of all documents), masked by kind

Lines are cut first, the rules judge what is left, and personal data is masked in what they keep.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from llm.cluster.pool import map_shards
from llm.config.filter import FilterConfig
from llm.corpus.documents import count_by_source, read_shard, shard_paths, text_bytes, write_table
from llm.corpus.filters.c4 import clean_lines
from llm.corpus.filters.judge import judge
from llm.corpus.filters.pii import mask
from llm.corpus.filters.rules import limits
from llm.files import write_dir
from llm.process import Context, main, warn_of_unwatched

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One shard to filter."""

    path: Path
    out: Path  # the stage's folder
    config: FilterConfig


@dataclass(frozen=True)
class Filtered:
    """What became of one shard."""

    documents_in: int
    documents_kept: int
    bytes_kept: int
    dropped: Counter[str]  # by rule
    lines_cut: int
    masked: Counter[str]  # by kind


def run(ctx: Context, *, filter: FilterConfig) -> dict[str, Any]:
    """Filter every shard; returns the stage's metrics."""
    paths = shard_paths(ctx.paths.stage("extract"))
    warn_of_unwatched(ctx, [each for each in (filter.url_blocklist, filter.bad_words) if each])
    documents_in = documents_kept = bytes_kept = lines_cut = 0
    dropped, masked = Counter[str](), Counter[str]()
    with write_dir(ctx.out) as partial:
        work = [Work(path, partial, filter) for path in paths]
        for result in map_shards(filter_shard, work, ctx):
            documents_in += result.documents_in
            documents_kept += result.documents_kept
            bytes_kept += result.bytes_kept
            dropped += result.dropped
            lines_cut += result.lines_cut
            masked.update(result.masked)
            logger.info("%d of %d documents kept", documents_kept, documents_in)
        by_source = count_by_source(partial / "kept")
    return {
        "documents_in": documents_in,
        "documents_kept": documents_kept,
        "bytes_kept": bytes_kept,
        "dropped": {rule: dropped[rule] for rule in limits(filter)},
        "by_source": by_source,
        "lines_cut": lines_cut,
        "masked": dict(masked),
    }


def filter_shard(work: Work) -> Filtered:
    """Write one shard's kept and rejected documents, in order."""
    documents, lines_cut = clean_lines(read_shard(work.path), work.config.c4.lines)
    verdicts = judge(documents, work.config)
    kept, masked = mask(documents.filter(verdicts["rule"].is_null()), work.config.mask)
    named = pa.table(
        [*documents.select(["id", "source"]), *verdicts], ["id", "source", "rule", "value"]
    )
    rejected = named.filter(verdicts["rule"].is_valid())
    write_table(work.out / "kept" / work.path.name, kept)
    write_table(work.out / "rejected" / work.path.name, rejected)
    return Filtered(
        documents_in=documents.num_rows,
        documents_kept=kept.num_rows,
        bytes_kept=int(text_bytes(kept["text"]).sum()),
        dropped=Counter(rejected["rule"].to_pylist()),
        lines_cut=lines_cut,
        masked=masked,
    )


if __name__ == "__main__":
    main("filter", run, filter=FilterConfig)
