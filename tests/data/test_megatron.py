"""Megatron-LM's files, read back by its published layout and not by our own words for it."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.megatron import MegatronWriter

NUMPY_TYPES = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 6: "f8", 7: "f4", 8: "u2"}


def read(path: Path) -> tuple[list[list[int]], list[int], np.dtype]:
    """Sequences, document bounds and type, as `IndexedDataset` of megatron/core reads them."""
    index = path.with_suffix(".idx").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack("<QBQQ", index[9:34])
    assert version == 1
    dtype = np.dtype("<" + NUMPY_TYPES[code])
    lengths = np.frombuffer(index, "<i4", sequences, 34)
    pointers = np.frombuffer(index, "<i8", sequences, 34 + lengths.nbytes)
    bounds = np.frombuffer(index, "<i8", documents, 34 + lengths.nbytes + pointers.nbytes)
    assert len(index) == 34 + lengths.nbytes + pointers.nbytes + bounds.nbytes
    ids = path.with_suffix(".bin").read_bytes()
    assert len(ids) == lengths.sum() * dtype.itemsize
    rows = [
        np.frombuffer(ids, dtype, length, pointer).tolist()
        for length, pointer in zip(lengths, pointers, strict=True)
    ]
    return rows, bounds.tolist(), dtype


@given(st.lists(st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=5), max_size=4)))
def test_every_document_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[list[int]]]
):
    path = tmp_path_factory.mktemp("megatron") / "train"
    with MegatronWriter(path, 300) as writer:
        for part in parts:
            ids = np.array([id_ for document in part for id_ in document], np.uint32)
            writer.write(ids, np.array([len(document) for document in part], np.int64))
    documents = [document for part in parts for document in part]
    rows, bounds, _ = read(path)
    assert rows == documents
    assert bounds == list(range(len(documents) + 1))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(65_499, "<u2"), (65_500, "<i4")])
def test_the_type_is_megatrons_for_that_vocabulary(tmp_path: Path, vocab_size: int, dtype: str):
    with MegatronWriter(tmp_path / "x", vocab_size) as writer:
        writer.write(np.array([vocab_size - 1]), np.array([1]))
    assert read(tmp_path / "x") == ([[vocab_size - 1]], [0, 1], np.dtype(dtype))


def test_an_index_is_not_written_when_something_went_wrong(tmp_path: Path):
    with pytest.raises(KeyError), MegatronWriter(tmp_path / "x", 300):
        raise KeyError
    assert not (tmp_path / "x.idx").exists()
