"""Datasets, read by the library itself from a folder in the hub's form."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm.config.corpus import HuggingFaceSource, Limits
from llm.corpus.sources.huggingface import dataset_shards, read_dataset
from llm.corpus.sources.items import Found, Skipped
from llm.errors import DataError


@pytest.fixture
def dataset(tmp_path: Path, limits: Limits) -> HuggingFaceSource:
    """Two files of five rows in a split, one row without text and one too long."""
    (tmp_path / "data").mkdir()
    for shard in range(2):
        texts = [f"text {shard} {row}" for row in range(5)]
        if shard:
            texts[1:3] = [None, "x" * 2_000_000]  # pyright: ignore[reportCallIssue, reportArgumentType]
        table = pa.table({"body": texts, "link": [f"http://x/{shard}/{n}" for n in range(5)]})
        pq.write_table(table, tmp_path / "data" / f"train-{shard:05d}-of-00002.parquet")
    return HuggingFaceSource(
        kind="huggingface",
        name="hf",
        path=str(tmp_path),
        config=None,
        split="train",
        revision=None,
        text_field="body",
        url_field="link",
        limits=limits,
    )


def test_shards_are_streamed_with_mapped_columns(dataset: HuggingFaceSource):
    assert dataset_shards(dataset) == ["0", "1"]
    first = [item.row for item in read_dataset(dataset, "0", 0) if isinstance(item, Found)]
    assert [row["content"] for row in first] == [f"text 0 {n}" for n in range(5)]
    assert [row["url"] for row in first] == [f"http://x/0/{n}" for n in range(5)]
    second = list(read_dataset(dataset, "1", 0))
    assert [item.reason for item in second if isinstance(item, Skipped)] == ["no_text", "too_long"]
    assert [item.position for item in second] == [1, 2, 3, 4, 5]
    plain = dataset.model_copy(update={"url_field": None})
    item = next(iter(read_dataset(plain, "1", 3)))
    assert isinstance(item, Found)
    assert item.row["content"] == "text 1 3"
    assert item.row["url"].endswith("/default/train#1-4")


def test_reading_goes_on_after_a_row(dataset: HuggingFaceSource):
    whole = list(read_dataset(dataset, "0", 0))
    assert list(read_dataset(dataset, "0", 3)) == whole[3:]


def test_a_dataset_that_the_library_cannot_parse_is_one_error(
    dataset: HuggingFaceSource, tmp_path: Path
):
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "train.jsonl").write_text('{"body": "broken\n{"body": "whole"}\n')
    broken = dataset.model_copy(update={"path": str(tmp_path / "rows")})
    with pytest.raises(DataError, match="its first row can't be read: "):
        dataset_shards(broken)
    with pytest.raises(DataError, match="correct the dataset if it stops there again"):
        list(read_dataset(broken, "0", 0))


def test_a_missing_dataset_split_or_column_is_one_error(dataset: HuggingFaceSource):
    with pytest.raises(DataError, match=r"hf\.text_field='text' is no column of .* body, link"):
        dataset_shards(dataset.model_copy(update={"text_field": "text"}))
    with pytest.raises(DataError, match=r"split test, .* can't be opened"):
        dataset_shards(dataset.model_copy(update={"split": "test"}))
    with pytest.raises(DataError, match=r"path=no/such can't be opened|path=no/such .* can't be"):
        dataset_shards(dataset.model_copy(update={"path": "no/such"}))
