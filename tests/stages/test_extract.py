"""Stage extract: normalised text, its language, and a reason for what is left out."""

import json
from pathlib import Path

import pytest

from llm.config.corpus import ExtractConfig
from llm.config.paths import Paths
from llm.corpus import html
from llm.corpus.documents import GATHERED, dump_meta, read_documents, read_shard, write_shards
from llm.stages.extract import run
from tests.stages.corpus_inputs import assert_same_outs, context

CONFIG = ExtractConfig(
    html="blocks", fallback_characters=150, repair=True, min_characters=20, language_characters=400
)
ENGLISH = "The quick brown fox jumps over the lazy dog and runs away from it."
GERMAN = "Der schnelle braune Fuchs springt über den faulen Hund und läuft davon."


def gathered(content: str, number: int, mime: str = "text/plain", **meta: str) -> dict[str, str]:
    return {
        "id": str(number),
        "source": "ab"[number % 2],
        "url": f"u{number}",
        "mime": mime,
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
        "repaired": 0,
        "extractors": {},
    }
    assert float(first["language_score"]) > 0.9


def test_pages_give_their_main_text_and_what_has_none_is_counted(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
):
    page = f"<html><body><nav><a href='/'>Home</a></nav><article><p>{ENGLISH * 3}</p></article>"
    rows = [
        gathered(page, 0, "text/html"),
        gathered("<html><body><nav><a href='/'>Home</a></nav>", 1, "text/html"),
        gathered("<html><body><p>breaks it", 2, "text/html"),
        gathered(GERMAN.encode().decode("cp1252"), 3),
    ]
    real = html.EXTRACTORS["blocks"]

    def fragile(text: str) -> str:
        if "breaks it" in text:
            raise ValueError("odd page")
        return real(text)

    monkeypatch.setitem(html.EXTRACTORS, "blocks", fragile)
    write_shards(paths.stage("gather"), rows, GATHERED, 1_000_000)
    metrics = run(context("extract", paths), extract=CONFIG)
    first, second = read_documents(paths.stage("extract"))
    assert first["text"] == ENGLISH * 3
    assert second["text"] == GERMAN
    assert metrics["repaired"] == 1
    assert metrics["failed"] == {"broken": 1, "no_main_text": 1}
    assert metrics["extractors"] == {"blocks": 1, "trafilatura": 1}
