"""Stage dedup: the first of each cluster stays, and the table says why the others went."""

import random
from pathlib import Path

import pytest

from llm.config.corpus import BoilerplateConfig
from llm.config.params import load_params
from llm.config.paths import Paths
from llm.corpus.documents import EXTRACTED, Row, read_documents, read_shard, write_shards
from llm.corpus.minhash import probability
from llm.files import fingerprint
from llm.stages.dedup import run
from tests.conftest import ROOT
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, prose, put, text_row
from tests.stages.stage_process import StageProcess

CONFIG = load_params(ROOT / "params.yaml").dedup


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


def test_no_documents_are_no_error(paths: Paths):
    put(paths.stage("filter") / "kept", [])
    assert run(context("dedup", paths), dedup=CONFIG)["documents_kept"] == 0


def test_the_longest_of_a_cluster_stays_where_asked_for(paths: Paths):
    text = prose(3, 200)
    rows = [text_row("a.txt", text), text_row("b.txt", text + "!!"), text_row("c.txt", text + ".")]
    put(paths.stage("filter") / "kept", rows)
    longest = CONFIG.model_copy(update={"keep": "longest"})
    run(context("dedup", paths), dedup=longest)
    assert list(read_documents(paths.stage("dedup") / "kept")) == [rows[1]]
    dropped = read_shard(paths.stage("dedup") / "clusters.parquet").to_pylist()
    assert [(row["id"], row["kept_id"], row["kind"]) for row in dropped] == [
        (rows[0]["id"], rows[1]["id"], "exact"),
        (rows[2]["id"], rows[1]["id"], "exact"),
    ]


def corpus(size: int) -> list[Row]:
    """Documents, of which half are copies with a changed word."""
    texts = [prose(number // 2, 60) for number in range(size)]
    return [
        text_row(f"{number}.txt", text if number % 2 else text.replace("item", "thing"))
        for number, text in enumerate(texts)
    ]


def test_the_memory_bound_changes_no_byte(paths: Paths):
    put(paths.stage("filter") / "kept", corpus(400), 20_000)
    metrics = run(context("dedup", paths), dedup=CONFIG)
    once = fingerprint(paths.stage("dedup"))
    assert metrics["near"] == 200
    tight = CONFIG.model_copy(update={"memory_bytes": 64 * 90})  # five ranges
    assert run(context("dedup", paths), dedup=tight) == metrics
    assert fingerprint(paths.stage("dedup")) == once


def test_boilerplate_goes_from_text_and_docstring_and_is_told(paths: Paths):
    notice = "Copyright of the authors, all rights reserved everywhere."
    rows = [function_row(n, doc=f"Summary {n}.\n\n{prose(n)}\n\n{notice}") for n in range(12)]
    bare = [text_row("bare.txt", notice), text_row("copy.txt", notice)]
    put(paths.stage("filter") / "kept", [*rows[:6], *bare, *rows[6:]], 2_000)
    units = BoilerplateConfig(unit="paragraph", max_documents=5, min_words=4)
    config = CONFIG.model_copy(update={"boilerplate": units})
    metrics = assert_same_outs("dedup", paths, run, dedup=config)
    kept = list(read_documents(paths.stage("dedup") / "kept"))
    assert [row["id"] for row in kept] == [row["id"] for row in rows]
    assert not any("rights" in row["text"] + row["meta"] for row in kept)
    assert kept[0]["text"] == rows[0]["text"].removesuffix("\n\n" + notice)
    assert read_shard(paths.stage("dedup") / "boilerplate.parquet").to_pylist() == [
        {"text": notice, "documents": "13"}
    ]
    assert read_shard(paths.stage("dedup") / "clusters.parquet").to_pylist() == [
        {"id": bare[1]["id"], "kept_id": bare[0]["id"], "kind": "exact"},
        {"id": bare[0]["id"], "kept_id": None, "kind": "boilerplate"},
    ]
    size = len(notice) * 13 + 2 * 12
    told = {"units": 1, "changed": 12, "emptied": 1, "bytes": size}
    assert metrics["boilerplate"] == told
    assert metrics["documents_in"] == metrics["documents_kept"] + metrics["exact"] + 1


def prepared(folder: Path) -> StageProcess:
    """On 1,600 filtered documents."""
    stage = StageProcess("dedup", folder)
    stage.prepare(
        lambda data: write_shards(data / "filter" / "kept", corpus(1600), EXTRACTED, 8_000)
    )
    return stage


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What it makes."""
    return prepared(tmp_path_factory.mktemp("once") / "dedup").finish()


@pytest.mark.parametrize(
    "moment",
    [".llm/*/dedup-*/keys/*", ".llm/*/dedup-*/pairs/00007*", "data/.dedup.partial/kept/*"],
)
def test_killed_in_the_middle_it_gives_the_same_bytes_when_run_again(
    tmp_path: Path, undisturbed: dict[str, str], moment: str
) -> None:
    stage = prepared(tmp_path / "killed")
    stage.kill_at(moment)
    assert stage.finish() == undisturbed
    assert not list((stage.folder / ".llm" / "work").glob("*"))


@pytest.mark.parametrize("full", ["data", ".llm"])
def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(
    tmp_path: Path, full: str
) -> None:
    """The outs' folder, or that of the work in progress, is a file system of its own, and small."""
    prepared(tmp_path / "full").fill_the_disk(full, 40_960)


def test_planted_copies_are_found_as_often_as_theory_says(paths: Paths):
    """200 words each of their own, of which one in so many is changed, for three such shares."""
    rng = random.Random(5)
    rows, chances = [], []
    for number in range(240):
        words = [f"w{rng.random()}".replace(".", "") for _ in range(200)]
        changed = set(rng.sample(range(200), (2, 8, 14)[number % 3]))
        other = [f"other{place}" if place in changed else word for place, word in enumerate(words)]
        differ = sum(not changed.isdisjoint(range(place, place + 5)) for place in range(196))
        chances.append(probability((196 - differ) / (196 + differ), CONFIG))
        rows += [text_row(f"{number}a", " ".join(words)), text_row(f"{number}b", " ".join(other))]
    put(paths.stage("filter") / "kept", rows)
    metrics = run(context("dedup", paths), dedup=CONFIG)
    deviation = sum(chance * (1 - chance) for chance in chances) ** 0.5
    assert 3 < deviation < 10
    assert metrics["near"] == pytest.approx(sum(chances), abs=4 * deviation)
    dropped = read_shard(paths.stage("dedup") / "clusters.parquet").to_pylist()
    originals = {rows[n + 1]["id"]: rows[n]["id"] for n in range(0, len(rows), 2)}
    assert all(originals[row["id"]] == row["kept_id"] for row in dropped)  # precision
