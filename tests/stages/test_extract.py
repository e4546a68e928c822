"""Stage extract: normalised text, its language, and a reason for what is left out."""

import json
from pathlib import Path

from llm.config.corpus import ExtractConfig
from llm.config.paths import Paths
from llm.corpus.documents import GATHERED, dump_meta, read_documents, read_shard, write_shards
from llm.stages.extract import run
from tests.stages.corpus_inputs import assert_same_outs

CONFIG = ExtractConfig(min_characters=20, language_characters=400)
ENGLISH = "The quick brown fox jumps over the lazy dog and runs away from it."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft davon."


def gathered(content: str, number: int, **meta: str) -> dict[str, str]:
    return {
        "id": str(number),
        "source": "ab"[number % 2],
        "url": f"u{number}",
        "mime": "text/plain",
        "content": content,
        "meta": dump_meta(meta),
    }


def test_every_document_is_extracted_or_failed_for_a_reason(paths: Paths):
    rows = [
        gathered(f"{ENGLISH}\r\n\x00 ", 0, doc="e\u0301\r\n"),
        gathered(GERMAN, 1),
        gathered(" \n too short \n", 2),
    ]
    write_shards(paths.stage("gather"), rows, GATHERED, 1)
    metrics = assert_same_outs("extract", paths, run, extract=CONFIG)
    first, second = read_documents(paths.stage("extract"))
    assert (first["text"], first["language"]) == (ENGLISH, "en")
    assert json.loads(first["meta"]) == {"doc": "é"}
    assert (second["text"], second["language"]) == (GERMAN, "de")
    failed = read_shard(Path(paths.data) / "extract" / "failed.parquet").to_pylist()
    assert failed == [{"id": "2", "source": "a", "reason": "empty"}]
    assert metrics == {
        "documents_in": 3,
        "documents_kept": 2,
        "bytes_kept": len((ENGLISH + GERMAN).encode()),
        "failed": {"empty": 1},
        "by_source": {"a": 1, "b": 1},
        "languages": {"de": 1, "en": 1},
    }
