"""Columns from Python's and numpy's values, and back."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from llm.corpus.columns import as_numpy, empty_table, number_column, text_column
from llm.corpus.documents import EXTRACTED, text_schema, write_rows
from tests.conftest import ROOT


@given(st.lists(st.none() | st.text()))
def test_texts_are_the_column_that_arrow_makes(values: list[str | None]):
    column = text_column(values)
    column.validate(full=True)
    assert column.equals(pa.array(values, pa.string()))


def test_a_lone_surrogate_is_no_text():
    with pytest.raises(UnicodeEncodeError):
        text_column(["\ud800"])


@given(hypothesis_numpy.arrays(st.sampled_from([bool, np.int64, np.int32, np.uint64, float]), 13))
def test_numbers_are_the_column_that_arrow_makes(values: np.ndarray):
    for each in (values, values[::2], values[:0]):
        column = number_column(each)
        column.validate(full=True)
        assert column.type == pa.array(each).type
        assert np.array_equal(np.array(column.to_pylist(), each.dtype), each, equal_nan=True)
        assert as_numpy(column).dtype == each.dtype
        assert np.array_equal(as_numpy(column), each, equal_nan=True)


def test_chunks_are_one_array_and_no_chunks_an_empty_one():
    assert as_numpy(pa.chunked_array([[1, 2], [3]])).tolist() == [1, 2, 3]
    empty = empty_table(pa.schema([("n", pa.int64())]))
    assert empty.num_rows == 0
    assert as_numpy(empty["n"]).tolist() == []


def test_a_worker_of_the_corpus_loads_no_pandas(tmp_path: Path):
    rows = [
        dict.fromkeys(EXTRACTED, "{}") | {"id": f"{n:040d}", "text": f"Text {n} here.\n" * 9}
        for n in range(5)
    ]
    write_rows(tmp_path / "shard.parquet", rows, text_schema(*EXTRACTED))
    code = f"""
import sys
from pathlib import Path
from llm.config.base import load_section
from llm.config.corpus import DedupConfig
from llm.config.filter import FilterConfig
from llm.corpus.duplicates import Plan, Shard, sign_shard
from llm.stages import filter
folder, params = Path({str(tmp_path)!r}), Path("params.yaml")
shard = folder / "shard.parquet"
filter.filter_shard(filter.Work(shard, folder, load_section(FilterConfig, "filter", params)))
plan = Plan(folder / "work", 5, load_section(DedupConfig, "dedup", params))
plan.prepare()
sign_shard(Shard(shard, 0, plan))
sys.exit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
