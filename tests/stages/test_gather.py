"""Stage gather: every source, sampled, counted, or refused before anything is written."""

from pathlib import Path

import pytest

from llm.config.corpus import FolderSource, GatherConfig, PythonDocsSource
from llm.config.paths import Paths
from llm.corpus.documents import read_documents, shard_paths
from llm.errors import DataError
from llm.stages.gather import run
from tests.stages.corpus_inputs import assert_same_outs, context


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
    return PythonDocsSource(kind="python_docs", name="docs", stdlib=False, packages=["zpackage"])


@pytest.fixture
def notes(tmp_path: Path) -> FolderSource:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02d}.txt").write_text(f"Note {number}, é.")
    return FolderSource(kind="folder", name="notes", path=str(folder), text_field="text")


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


def test_a_bad_source_is_refused_before_a_good_one_is_gathered(
    paths: Paths, docs: PythonDocsSource, notes: FolderSource, tmp_path: Path
):
    (tmp_path / "notes" / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"bad\.txt is not UTF-8"):
        run(context("gather", paths), gather=config(docs, notes))
    missing = docs.model_copy(update={"name": "more", "packages": ["no_such_package"]})
    with pytest.raises(DataError, match="no_such_package"):
        run(context("gather", paths), gather=config(docs, missing))
    assert not Path(paths.data).exists()


def test_sources_without_any_document_are_one_error(paths: Paths, docs: PythonDocsSource):
    empty = docs.model_copy(update={"packages": []})
    with pytest.raises(DataError, match="give no document"):
        run(context("gather", paths), gather=config(empty))
    assert not paths.stage("gather").exists()
