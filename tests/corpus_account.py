"""A small corpus in which every stage loses a document, for tests of its account."""

from pathlib import Path

import pyarrow as pa

from llm.corpus.documents import (
    EXTRACTED,
    GATHERED,
    Row,
    document_id,
    text_schema,
    write_rows,
    write_shards,
    write_table,
)
from tests.stages.corpus_inputs import text_row

NAMES = ["kept", "failed", "short", "copy", "held", "dirty", "flagged", "thinned"]
IDS = {name: document_id("notes", f"file:{name}") for name in NAMES}


def rows(*names: str) -> list[Row]:
    return [text_row(name, f"The text of {name}. " * 20) for name in names]


def gathered(name: str) -> Row:
    row = rows(name)[0]
    return {key: row.get(key, "") for key in GATHERED} | {"content": f"raw {name}"}


def write_corpus(tmp_path: Path) -> None:
    """Eight documents and two skipped ones, each lost in another way, but for two."""

    def record(file: str, *records: Row) -> None:
        write_rows(tmp_path / file, list(records), text_schema(*records[0]))

    write_shards(tmp_path / "gather", [gathered(name) for name in NAMES], GATHERED, 100)
    skipped = {"source": "notes", "url": "file:x", "reason": "damaged", "detail": "cut off"}
    record("gather/skipped/00000.parquet", skipped, skipped | {"url": "file:y"})
    record("extract/failed.parquet", {"id": IDS["failed"], "source": "notes", "reason": "empty"})
    write_shards(
        tmp_path / "extract", rows(*(n for n in NAMES if n != "failed")), EXTRACTED, 10_000
    )
    short = {"id": IDS["short"], "source": "notes", "rule": "min_words", "value": "3"}
    record("filter/rejected/00000.parquet", short)
    write_shards(
        tmp_path / "filter/kept",
        rows("kept", "copy", "held", "dirty", "flagged", "thinned"),
        EXTRACTED,
        10_000,
    )
    copy = {"id": IDS["copy"], "kept_id": IDS["kept"], "kind": "near"}
    record("dedup/clusters.parquet", copy)
    write_shards(
        tmp_path / "dedup/kept",
        rows("kept", "held", "dirty", "flagged", "thinned"),
        EXTRACTED,
        10_000,
    )
    write_shards(tmp_path / "decontaminate/heldout", rows("held"), EXTRACTED, 10_000)
    hit = {"document_id": IDS["dirty"], "item_id": IDS["held"], "ngram": "the same words"}
    record(
        "decontaminate/contamination.parquet",
        hit,
        hit | {"ngram": "and more"},
        hit | {"document_id": IDS["flagged"]},
    )
    write_shards(
        tmp_path / "decontaminate/kept", rows("kept", "flagged", "thinned"), EXTRACTED, 10_000
    )
    held = {"source": ["notes"] * 2, "split": ["train", "val"], "copies": [2, 1]}
    held |= {"id": [IDS["kept"], IDS["flagged"]], "tokens": [80, 40], "bytes": [700, 350]}
    write_table(tmp_path / "tokenize/documents/00000.parquet", pa.table(held))
    record("tokenize/left_out/00000.parquet", {"id": IDS["thinned"], "source": "notes"})
