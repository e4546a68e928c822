"""Stage extract: normalised text and its language.

Reads    data/gather                 documents: id, source, url, mime, content, meta
Writes   data/extract                shards: id, source, url, text, language, meta
         data/extract/failed.parquet id, source, reason (`empty`: fewer than min_characters)
Metrics  extract.json                documents_in, documents_kept, bytes_kept, failed by reason,
                                     kept by source, languages

The language is py3langid's guess from the leading characters (Lui and Baldwin 2012). On
docstrings as they are, headings and code included, it loses fewer English texts than on
the words alone: short texts give it too little to go by.
"""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import py3langid

from llm.cluster import map_shards
from llm.config.corpus import ExtractConfig
from llm.corpus.documents import (
    EXTRACTED,
    Row,
    dump_meta,
    read_shard,
    shard_paths,
    text_schema,
    write_rows,
)
from llm.corpus.normalize import normalize
from llm.files import write_dir
from llm.process import Context, main

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One shard to extract."""

    path: Path
    out: Path
    config: ExtractConfig


@dataclass(frozen=True)
class Extracted:
    """What became of one shard."""

    documents_in: int
    bytes_kept: int
    failed: list[Row]
    sources: Counter[str]  # of the kept documents
    languages: Counter[str]


def run(ctx: Context, *, extract: ExtractConfig) -> dict[str, Any]:
    """Extract every shard; returns the stage's metrics."""
    paths = shard_paths(ctx.paths.stage("gather"))
    failed: list[Row] = []
    sources, languages = Counter[str](), Counter[str]()
    documents_in = bytes_kept = 0
    with write_dir(ctx.out) as partial:
        work = [Work(path, partial / path.name, extract) for path in paths]
        for result in map_shards(extract_shard, work, ctx.workers):
            documents_in += result.documents_in
            bytes_kept += result.bytes_kept
            failed += result.failed
            sources += result.sources
            languages += result.languages
            logger.info("%d documents extracted", documents_in)
        write_rows(partial / "failed.parquet", failed, text_schema("id", "source", "reason"))
    return {
        "documents_in": documents_in,
        "documents_kept": documents_in - len(failed),
        "bytes_kept": bytes_kept,
        "failed": dict(sorted(Counter(row["reason"] for row in failed).items())),
        "by_source": dict(sorted(sources.items())),
        "languages": dict(sorted(languages.items())),
    }


def extract_shard(work: Work) -> Extracted:
    """Write one extracted shard."""
    gathered = read_shard(work.path).to_pylist()
    kept, failed = [], []
    for row in gathered:
        text = normalize(row["content"])
        if len(text) < work.config.min_characters:
            failed.append({"id": row["id"], "source": row["source"], "reason": "empty"})
        else:
            kept.append(_extracted(row, text, work.config.language_characters))
    write_rows(work.out, kept, text_schema(*EXTRACTED))
    return Extracted(
        documents_in=len(gathered),
        bytes_kept=sum(len(row["text"].encode()) for row in kept),
        failed=failed,
        sources=Counter(row["source"] for row in kept),
        languages=Counter(row["language"] for row in kept),
    )


def _extracted(row: Row, text: str, language_characters: int) -> Row:
    language, _ = py3langid.classify(text[:language_characters])
    meta = json.loads(row["meta"])
    if "doc" in meta:
        meta["doc"] = normalize(meta["doc"])
    return {
        "id": row["id"],
        "source": row["source"],
        "url": row["url"],
        "text": text,
        "language": language,
        "meta": dump_meta(meta),
    }


if __name__ == "__main__":
    main("extract", run, extract=ExtractConfig)
