"""Token shards as one stream."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.shards import HEADER, ShardWriter, TokenShards, id_dtype, read_header
from llm.errors import DataError
from llm.tokenizer.load import Tokenizer

NUMBERS = itertools.count()


def write(folder: Path, documents: list[list[int]], size: int, tokenizer: Tokenizer) -> TokenShards:
    with ShardWriter(folder, size, tokenizer) as writer:
        for document in documents:
            writer.write(np.array(document, np.uint32))
    return TokenShards(folder, tokenizer.hash)


@given(
    documents=st.lists(st.lists(st.integers(0, 399), max_size=12), max_size=8).filter(any),
    size=st.integers(1, 15),
    span=st.tuples(st.integers(-60, 110), st.integers(-60, 110)),
)
def test_a_slice_is_that_of_the_joined_documents(
    documents: list[list[int]],
    size: int,
    span: tuple[int, int],
    tokenizer: Tokenizer,
    tmp_path_factory: pytest.TempPathFactory,
):
    folder = tmp_path_factory.mktemp(f"shards{next(NUMBERS)}")
    shards = write(folder, documents, size, tokenizer)
    stream = [id_ for document in documents for id_ in document]
    assert len(shards) == len(stream)
    assert shards[span[0] : span[1]].tolist() == stream[span[0] : span[1]]
    counts = [read_header(path).count for path in sorted(folder.iterdir())]
    assert counts == [size] * (len(stream) // size) + [len(stream) % size] * (
        len(stream) % size > 0
    )


def test_a_small_vocabulary_takes_two_bytes_per_id(tokenizer: Tokenizer, tmp_path: Path):
    shards = write(tmp_path, [[1, 2, 3]], 10, tokenizer)
    assert shards[0:3].dtype == np.uint16
    assert (tmp_path / "00000.bin").stat().st_size == HEADER.size + 6
    assert [id_dtype(size).itemsize for size in (2**16, 2**16 + 1)] == [2, 4]


def test_another_tokenizer_is_refused(tokenizer: Tokenizer, tmp_path: Path):
    write(tmp_path, [[1, 2, 3]], 10, tokenizer)
    with pytest.raises(DataError, match=r"made by tokenizer .* not by the given 000000000000"):
        TokenShards(tmp_path, "0" * 64)


def test_the_fingerprint_is_that_of_the_ids_and_their_order(tokenizer: Tokenizer, tmp_path: Path):
    same, again, other = (
        write(tmp_path / name, ids, 2, tokenizer).fingerprint
        for name, ids in (("a", [[1, 2], [3]]), ("b", [[1], [2, 3]]), ("c", [[1, 3], [2]]))
    )
    assert same == again != other


def test_damage_is_one_error(tokenizer: Tokenizer, tmp_path: Path):
    with pytest.raises(DataError, match="holds no token shards"):
        TokenShards(tmp_path, tokenizer.hash)
    write(tmp_path, [[1, 2, 3]], 10, tokenizer)
    path = tmp_path / "00000.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=f"has {len(content) - 1} bytes, its header promises"):
        TokenShards(tmp_path, tokenizer.hash)
    path.write_bytes(b"x" * 200)
    with pytest.raises(DataError, match="is not a token shard"):
        TokenShards(tmp_path, tokenizer.hash)
    path.write_bytes(content[:8] + bytes([9]) + content[9:])
    with pytest.raises(DataError, match="has version 9"):
        TokenShards(tmp_path, tokenizer.hash)
