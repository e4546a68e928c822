"""Stage gather: every source, sampled, counted, or refused before anything is written."""

import io
import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from llm.config.corpus import FolderSource, GatherConfig, Limits, PythonDocsSource
from llm.config.paths import Paths
from llm.corpus.documents import read_documents, shard_paths
from llm.errors import DataError
from llm.stages.gather import run
from tests.conftest import ROOT
from tests.stages.corpus_inputs import assert_same_outs, context
from tests.stages.stage_process import StageProcess


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PythonDocsSource:
    """A package of five large modules and one that does not parse."""
    package = tmp_path / "lib" / "zpackage"
    package.mkdir(parents=True)
    for number in range(5):
        code = "".join(f'def f{n}():\n    """Doc {number} {n}."""\n' for n in range(20))
        (package / f"m{number}.py").write_text(code + "#" * 600_000)
    (package / "broken.py").write_text("def")
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path / "lib")
    return PythonDocsSource(
        kind="python_docs", name="docs", stdlib=False, packages=["zpackage"], limits=LIMITS
    )


@pytest.fixture
def notes(tmp_path: Path) -> FolderSource:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.txt").write_text(f"Note {number}, é.")
    return FolderSource(
        kind="folder", name="notes", path=str(folder), text_field="text", limits=LIMITS
    )


LIMITS = Limits(max_documents=0, max_record_bytes=1_000_000, max_inflation=50)


def config(*sources: PythonDocsSource | FolderSource, limit: int = 0) -> GatherConfig:
    return GatherConfig(sources=list(sources), max_documents=limit, shard_bytes=4_000)


def test_every_document_of_every_source_is_written_and_counted(
    paths: Paths, docs: PythonDocsSource, notes: FolderSource
):
    metrics = assert_same_outs("gather", paths, run, gather=config(docs, notes))
    rows = list(read_documents(paths.stage("gather")))
    assert len(shard_paths(paths.stage("gather"))) > 2
    assert [row["source"] for row in rows] == ["docs"] * 100 + ["notes"] * 30
    assert len({row["id"] for row in rows}) == 130
    assert metrics["documents"] == 130
    assert metrics["bytes"] == sum(len(row["content"].encode()) for row in rows)
    assert metrics["by_source"]["docs"]["failed"] == 1
    assert metrics["by_source"]["notes"]["documents"] == 30


def test_a_sample_is_even_over_a_source_and_keeps_its_order(
    paths: Paths, docs: PythonDocsSource, notes: FolderSource
):
    run(context("gather", paths), gather=config(docs, notes))
    everything = [row["id"] for row in read_documents(paths.stage("gather"))]
    metrics = run(context("gather", paths), gather=config(docs, notes, limit=20))
    sample = [row["id"] for row in read_documents(paths.stage("gather"))]
    assert metrics["documents"] == len(sample) == 40
    assert sample == [id_ for id_ in everything if id_ in set(sample)]
    smaller = config(docs, notes, limit=10)
    run(context("gather", paths), gather=smaller)
    assert {row["id"] for row in read_documents(paths.stage("gather"))} < set(sample)


def test_a_missing_source_is_refused_before_a_good_one_is_gathered(
    paths: Paths, docs: PythonDocsSource, notes: FolderSource
):
    gone = notes.model_copy(update={"name": "gone", "path": "no/such/folder"})
    with pytest.raises(DataError, match=r"gone\.path=no/such/folder is not a folder"):
        run(context("gather", paths), gather=config(docs, gone))
    missing = docs.model_copy(update={"name": "more", "packages": ["no_such_package"]})
    with pytest.raises(DataError, match="no_such_package"):
        run(context("gather", paths), gather=config(docs, missing))
    assert not Path(paths.data).exists()


def test_what_is_skipped_is_counted_and_named(
    paths: Paths, docs: PythonDocsSource, notes: FolderSource, tmp_path: Path
):
    (tmp_path / "notes" / "bad.jsonl").write_bytes(b'{"text": "good"}\n{"text": 1}\n\xff\n{\n')
    metrics = assert_same_outs("gather", paths, run, gather=config(docs, notes))
    counts = metrics["by_source"]["notes"]
    assert (counts["documents"], counts["failed"]) == (31, 3)
    assert counts["skipped"] == {"encoding": 1, "no_text": 1, "not_json": 1}
    skipped = list(read_documents(paths.stage("gather") / "skipped"))
    assert [row["source"] for row in skipped] == ["docs"] + ["notes"] * 3
    assert [row["url"] for row in skipped[1:]] == [f"file:bad.jsonl#{n}" for n in (2, 3, 4)]


@pytest.mark.parametrize("limit", [0, 20])
def test_a_source_of_nothing_but_bad_rows_says_what_is_wrong_with_them(
    paths: Paths, notes: FolderSource, tmp_path: Path, limit: int
):
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.jsonl").write_text('{"body": "x"}\n{"body": "y"}\n')
    source = notes.model_copy(update={"path": str(only)})
    with pytest.raises(DataError, match=r"2 no_text; e\.g\. file:a\.jsonl#1: .*the row has body"):
        run(context("gather", paths), gather=config(source, limit=limit))
    assert not paths.stage("gather").exists()


def test_a_source_stops_at_its_own_limit(paths: Paths, docs: PythonDocsSource, notes: FolderSource):
    few = [
        source.model_copy(update={"limits": LIMITS.model_copy(update={"max_documents": most})})
        for source, most in ((docs, 25), (notes, 7))  # 20 of the 25 are in the first part
    ]
    metrics = assert_same_outs("gather", paths, run, gather=config(*few))
    assert [each["documents"] for each in metrics["by_source"].values()] == [25, 7]
    urls = [row["url"] for row in read_documents(paths.stage("gather")) if row["source"] == "notes"]
    assert urls == [f"file:{number:02d}.txt" for number in range(7)]


def test_sources_without_any_document_are_one_error(paths: Paths, docs: PythonDocsSource):
    empty = docs.model_copy(update={"packages": []})
    with pytest.raises(DataError, match="docs gives no document; correct"):
        run(context("gather", paths), gather=config(empty))
    assert not paths.stage("gather").exists()


def test_files_that_dvc_does_not_watch_are_named(
    paths: Paths,
    notes: FolderSource,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.chdir(tmp_path)
    inner = notes.model_copy(update={"name": "inner", "path": "notes"})
    (tmp_path / "dvc.yaml").write_text("stages: {gather: {deps: [notes]}}")
    run(context("gather", paths), gather=config(notes, inner))
    assert "does not see" not in caplog.text
    (tmp_path / "dvc.yaml").write_text("stages: {gather: {deps: [other]}}")
    run(context("gather", paths), gather=config(inner))
    assert "DVC does not see when notes changes; add it to the deps" in caplog.text


def prepared(folder: Path, source: Mapping[str, object], **changes: object) -> StageProcess:
    """On one source."""
    params = YAML(typ="safe").load((ROOT / "params.yaml").read_text())
    params["gather"] |= {"sources": [source], **changes}
    text = io.StringIO()
    YAML().dump(params, text)
    stage = StageProcess("gather", folder)
    stage.prepare(lambda data: data.mkdir(), text.getvalue())
    return stage


def test_killed_in_the_middle_of_a_file_it_goes_on_to_the_same_bytes(
    tmp_path: Path, notes: FolderSource
):
    lines = (json.dumps({"text": f"Row {n}. " + "word " * 50}) + "\n" for n in range(20_000))
    (tmp_path / "notes" / "big.jsonl").write_text("".join(lines))
    once, killed = (
        prepared(tmp_path / name, notes.model_dump(), shard_bytes=500_000)
        for name in ("once", "killed")
    )
    killed.kill_at(".llm/work/*/*/00001.parquet")
    states = [json.loads(each.read_text()) for each in killed.folder.rglob("state.json")]
    (position,) = [state["position"] for state in states if not state["done"]]
    assert position > 0
    assert killed.finish() == once.finish()


@pytest.mark.parametrize("full", ["data", ".llm"])
def test_a_full_disk_is_one_error_and_leaves_nothing_half_written(
    tmp_path: Path, notes: FolderSource, full: str
):
    """What is read goes to `.llm` first, then to the data's folder."""
    stage = prepared(tmp_path / "full", notes.model_dump() | {"path": "notes"})
    (tmp_path / "notes").rename(stage.folder / "notes")
    (stage.folder / "notes" / "big.txt").write_text(random.Random(0).randbytes(200_000).hex())
    stage.fill_the_disk(full, 40_960)
