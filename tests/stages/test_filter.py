"""Stage filter: every document is kept, or rejected by a named rule."""

from pathlib import Path

import pyarrow.parquet as pq

from llm.config.params import load_params
from llm.config.paths import Paths
from llm.corpus.documents import read_documents
from llm.stages.filter import run
from tests.conftest import ROOT
from tests.stages.corpus_inputs import assert_same_outs, function_row, put, text_row

CONFIG = load_params(ROOT / "params.yaml").filter


def test_every_document_is_kept_or_rejected_by_a_rule(paths: Paths):
    good = [function_row(n) for n in range(40)]
    bad = [
        text_row("short.txt", "Too short."),
        text_row("french.txt", "Il y a des mots dans cette phrase.") | {"language": "fr"},
        text_row("lines.txt", "the same line\n" * 20),
    ]
    put(paths.stage("extract"), [*good[:20], *bad, *good[20:]], 4_000)
    metrics = assert_same_outs("filter", paths, run, filter=CONFIG)
    assert list(read_documents(paths.stage("filter") / "kept")) == good
    rejected = pq.read_table(Path(paths.data) / "filter" / "rejected").to_pylist()
    assert rejected == [
        {"id": bad[0]["id"], "source": "notes", "rule": "min_words", "value": "2"},
        {"id": bad[1]["id"], "source": "notes", "rule": "language", "value": "fr"},
        {"id": bad[2]["id"], "source": "notes", "rule": "duplicate_line_ratio", "value": "0.9500"},
    ]
    assert metrics["documents_in"] == metrics["documents_kept"] + sum(metrics["dropped"].values())
    assert metrics["by_source"] == {"docs": 40}
    assert metrics["bytes_kept"] == sum(len(row["text"].encode()) for row in good)
