"""Stage dedup: the first of each cluster stays, and the table says why the others went."""

from llm.config.corpus import DedupConfig
from llm.config.paths import Paths
from llm.corpus.documents import read_documents, read_shard
from llm.stages.dedup import run
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, prose, put, text_row

CONFIG = DedupConfig(shingle_words=5, bands=14, rows_per_band=8, seed=1)


def test_copies_go_and_the_first_of_each_cluster_stays(paths: Paths):
    first = [function_row(n) for n in range(20)]
    text = prose(3, 200)
    copies = [
        function_row(100, doc="return the 3TH thing: \n" + prose(3)),  # of first[3], exactly
        text_row("a.txt", text),
        text_row("b.txt", text.upper()),  # of a.txt, exactly
        text_row("c.txt", text.replace("Return item", "Gives item")),  # nearly
        text_row("d.txt", text.replace("Return item", "GIVES item")),  # of c.txt, exactly
    ]
    put(paths.stage("filter") / "kept", [*first, *copies], 2_000)
    metrics = assert_same_outs("dedup", paths, run, dedup=CONFIG)
    assert list(read_documents(paths.stage("dedup") / "kept")) == [*first, copies[1]]
    exact, a, b, c, d = (row["id"] for row in copies)
    assert read_shard(paths.stage("dedup") / "clusters.parquet").to_pylist() == [
        {"id": exact, "kept_id": first[3]["id"], "kind": "exact"},
        {"id": b, "kept_id": a, "kind": "exact"},
        {"id": c, "kept_id": a, "kind": "near"},
        {"id": d, "kept_id": a, "kind": "exact"},
    ]
    assert metrics["documents_in"] == 25
    assert metrics["documents_kept"] == 21
    assert (metrics["exact"], metrics["near"], metrics["clusters"]) == (3, 1, 2)
    assert metrics["by_source"] == {"docs": 20, "notes": 1}


def test_what_is_deduplicated_has_no_duplicates(paths: Paths):
    rows = [function_row(n % 7 + 100 * n, doc=prose(n % 7)) for n in range(30)]
    put(paths.stage("filter") / "kept", rows)
    assert run(context("dedup", paths), dedup=CONFIG)["documents_kept"] == 7
    put(paths.stage("filter") / "kept", list(read_documents(paths.stage("dedup") / "kept")))
    assert run(context("dedup", paths), dedup=CONFIG)["clusters"] == 0
