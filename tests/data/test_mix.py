"""How often a document is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.tokenizer import SourceWeight
from llm.data.mix import Mix


@given(st.floats(0, 20), st.text(max_size=5), st.integers(0, 5))
def test_a_document_is_read_the_weight_rounded_down_or_up_times(weight: float, id_: str, seed: int):
    mix = Mix([SourceWeight(source="a", weight=weight)], seed)
    assert mix.copies(id_, "a") in (int(weight), int(weight) + (weight % 1 > 0))
    assert mix.copies(id_, "a") <= mix.most_copies
    assert mix.copies(id_, "other") == 1


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.5])
def test_a_source_is_read_as_often_as_its_weight_says(weight: float):
    mix = Mix([SourceWeight(source="a", weight=weight)], 1)
    total = sum(mix.copies(str(n), "a") for n in range(5000))
    assert total / 5000 == pytest.approx(weight, abs=0.03)


def test_a_smaller_weight_reads_a_part_of_what_a_larger_one_reads():
    few, many = (Mix([SourceWeight(source="a", weight=w)], 1) for w in (0.2, 0.6))
    assert all(few.copies(str(n), "a") <= many.copies(str(n), "a") for n in range(500))
