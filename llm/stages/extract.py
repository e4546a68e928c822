"""Stage extract: the main text of pages, normalised, and its language.

Reads    data/gather                 documents: id, source, url, mime, content, meta
Writes   data/extract                shards: id, source, url, text, language, language_score, meta
         data/extract/failed.parquet id, source, reason (`empty`: fewer than min_characters;
                                     `no_main_text`: so in a page; `broken`: it can't be parsed)
Metrics  extract.json                documents_in, documents_kept, bytes_kept, failed by reason,
                                     kept by source, languages, repaired, pages by extractor

The language is py3langid's guess from the leading characters (Lui and Baldwin 2012). On
docstrings as they are, headings and code included, it loses fewer English texts than on
the words alone: short texts give it too little to go by.
"""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from llm.cluster.pool import map_shards
from llm.config.corpus import ExtractConfig
from llm.corpus.documents import (
    EXTRACTED,
    Row,
    dump_meta,
    read_shard,
    shard_paths,
    text_schema,
    text_table,
    write_rows,
)
from llm.corpus.html import extract_html
from llm.corpus.normalize import normalize, repair
from llm.files import write_dir
from llm.process import Context, main

FAILED = text_schema("id", "source", "reason")

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
    failed: pa.Table
    sources: Counter[str]  # of the kept documents
    languages: Counter[str]
    repaired: int
    extractors: Counter[str]  # of pages


def run(ctx: Context, *, extract: ExtractConfig) -> dict[str, Any]:
    """Extract every shard; returns the stage's metrics."""
    paths = shard_paths(ctx.paths.stage("gather"))
    reasons, sources = Counter[str](), Counter[str]()
    languages, extractors = Counter[str](), Counter[str]()
    documents_in = bytes_kept = repaired = 0
    with (
        write_dir(ctx.out) as partial,
        pq.ParquetWriter(partial / "failed.parquet", FAILED, compression="zstd") as failed,
    ):
        work = [Work(path, partial / path.name, extract) for path in paths]
        for result in map_shards(extract_shard, work, ctx):
            documents_in += result.documents_in
            bytes_kept += result.bytes_kept
            failed.write_table(result.failed)
            reasons.update(result.failed["reason"].to_pylist())
            sources += result.sources
            languages += result.languages
            repaired += result.repaired
            extractors += result.extractors
            logger.info("%d documents extracted", documents_in)
    return {
        "documents_in": documents_in,
        "documents_kept": documents_in - reasons.total(),
        "bytes_kept": bytes_kept,
        "failed": dict(sorted(reasons.items())),
        "by_source": dict(sorted(sources.items())),
        "languages": dict(sorted(languages.items())),
        "repaired": repaired,
        "extractors": dict(sorted(extractors.items())),
    }


def extract_shard(work: Work) -> Extracted:
    """Write one extracted shard."""
    config = work.config
    gathered = read_shard(work.path).to_pylist()
    kept, failed = [], []
    extractors = Counter[str]()
    repaired = 0
    for row in gathered:
        text, reason = _text(row, config, extractors)
        fixed = repair(text) if config.repair else text
        repaired += fixed != text
        text = normalize(fixed)
        if len(text) < config.min_characters:
            failed.append({"id": row["id"], "source": row["source"], "reason": reason})
        else:
            kept.append(_extracted(row, text, config))
    write_rows(work.out, kept, text_schema(*EXTRACTED))
    return Extracted(
        documents_in=len(gathered),
        bytes_kept=sum(len(row["text"].encode()) for row in kept),
        failed=text_table(failed, FAILED),
        sources=Counter(row["source"] for row in kept),
        languages=Counter(row["language"] for row in kept),
        repaired=repaired,
        extractors=extractors,
    )


def _text(row: Row, config: ExtractConfig, extractors: Counter[str]) -> tuple[str, str]:
    """A document's text as it is written, and what to say of it when it is too short."""
    if row["mime"] != "text/html":
        return row["content"], "empty"
    try:
        text, extractor = extract_html(row["content"], config)
    except Exception as error:  # pages that break a parser are as many as there are parsers
        logger.warning("%s can't be parsed: %s: %s", row["url"], type(error).__name__, error)
        return "", "broken"
    extractors[extractor] += 1
    return text, "no_main_text"


@cache
def _identifier() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _extracted(row: Row, text: str, config: ExtractConfig) -> Row:
    language, score = _identifier().classify(text[: config.language_characters])
    meta = json.loads(row["meta"])
    if "doc" in meta:
        meta["doc"] = normalize(repair(meta["doc"]) if config.repair else meta["doc"])
    return {
        "id": row["id"],
        "source": row["source"],
        "url": row["url"],
        "text": text,
        "language": language,
        "language_score": f"{score:.4f}",
        "meta": dump_meta(meta),
    }


if __name__ == "__main__":
    main("extract", run, extract=ExtractConfig)
