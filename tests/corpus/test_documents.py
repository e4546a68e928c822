"""Document shards."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.documents import (
    GATHERED,
    Row,
    count_by_source,
    document_id,
    hash_fraction,
    read_documents,
    read_shard,
    shard_paths,
    shard_size,
    text_schema,
    valid_unicode,
    write_rows,
    write_shards,
)
from llm.errors import DataError


def rows(count: int) -> list[Row]:
    return [
        {column: f"{column} {n} é" for column in GATHERED} | {"source": "ab"[n % 2]}
        for n in range(count)
    ]


@pytest.mark.parametrize("size", [1, 150, 10_000])
def test_rows_come_back_in_order_whatever_the_shards(tmp_path: Path, size: int):
    count = write_shards(tmp_path, iter(rows(7)), GATHERED, size)
    assert len(shard_paths(tmp_path)) == count
    assert list(read_documents(tmp_path)) == rows(7)
    assert count_by_source(tmp_path) == {"a": 4, "b": 3}


def test_the_same_rows_are_the_same_bytes(tmp_path: Path):
    for name in "ab":
        write_shards(tmp_path / name, rows(50), GATHERED, 500)
    for path in shard_paths(tmp_path / "a"):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_no_rows_are_one_empty_shard_and_no_shards_an_error(tmp_path: Path):
    with pytest.raises(DataError, match="holds no document shards"):
        shard_paths(tmp_path)
    assert write_shards(tmp_path, [], GATHERED, 10) == 1
    assert list(read_documents(tmp_path)) == []


def test_a_shard_knows_its_size_and_a_damaged_one_is_one_error(tmp_path: Path):
    path = tmp_path / "00000.parquet"
    write_rows(path, rows(7), text_schema(*GATHERED))
    assert shard_size(path) == 7
    path.write_bytes(b"PAR1 no")
    for read in (read_shard, shard_size):
        with pytest.raises(DataError, match=r"00000\.parquet is not a readable parquet file"):
            read(path)


def test_hash_fractions_are_even_and_ids_differ_by_source():
    below = sum(hash_fraction(str(n)) < 0.3 for n in range(5000))
    assert below / 5000 == pytest.approx(0.3, abs=0.02)
    assert document_id("a", "file:x") != document_id("b", "file:x")


@given(st.text(st.characters()))
def test_valid_unicode_can_be_written_and_keeps_valid_text(text: str):
    valid = valid_unicode(text)
    valid.encode()
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert valid == text
