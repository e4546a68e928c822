"""The order-2 byte model by hand and as a distribution."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.data.byte_model import ByteModel, _interpolate, count_triples


def test_an_untrained_model_needs_eight_bits_per_byte_and_end():
    assert ByteModel().bits(count_triples(["abcd", "ü"])) == pytest.approx(8 * (5 + 3))


def test_witten_bell_by_hand():
    """Train on "aa", whose bytes are a, a and the end.

    Order 0: N=3, T=2: a = (2 + 2/256) / 5, end = (1 + 2/256) / 5.
    Order 1: after a, N=2, T=2: a = (1 + 2 a0) / 4; after the end, N=1, T=1: a = (1 + a0) / 2.
    Order 2: after (end, end), N=1, T=1: a = (1 + a1) / 2; (end, a): N=1, T=1: end = end1 / 2.
    """
    model = ByteModel()
    model.add(count_triples(["aa"]))
    a0, end0 = (2 + 2 / 256) / 5, (1 + 2 / 256) / 5
    first = (1 + (1 + a0) / 2) / 2  # a after (end, end)
    end = (1 + 2 * end0) / 4 / 2  # the end after (end, a), where only a was seen
    assert model.bits(count_triples(["a"])) == pytest.approx(-math.log2(first) - math.log2(end))


@given(st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_the_chances_of_all_bytes_sum_to_one(counts: list[int]):
    chances = _interpolate(np.array([counts]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert chances.sum() == pytest.approx(1)
    assert (chances > 0).all()


def test_text_like_the_training_text_takes_fewer_bits():
    rng = random.Random(1)
    words = ["return", "value", "array", "the", "of"]
    texts = [" ".join(rng.choices(words, k=30)) for _ in range(40)]
    model = ByteModel()
    model.add(count_triples(texts[:20]))
    model.add(count_triples(texts[20:30]))
    size = sum(len(text) for text in texts[30:])
    assert model.bits(count_triples(texts[30:])) / size < 2.5
    assert model.bits(count_triples(["q7%" * 20])) / 60 > 6


TEXTS = st.lists(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
    max_size=5,
)


@given(TEXTS, TEXTS)
def test_triples_of_two_lists_of_texts_add_up(some: list[str], others: list[str]):
    added, whole = count_triples(some) + count_triples(others), count_triples([*some, *others])
    assert added.codes.tolist() == whole.codes.tolist()
    assert added.counts.tolist() == whole.counts.tolist()
    assert added.counts.sum() == sum(len(text.encode()) + 1 for text in (*some, *others))
