"""MinHash-LSH and clusters."""

import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.corpus import DedupConfig
from llm.corpus.minhash import (
    Clusters,
    band_keys,
    exact_hash,
    join_equal,
    shingles,
    words,
)

CONFIG = DedupConfig(shingle_words=5, bands=14, rows_per_band=8, seed=1)


def test_texts_that_differ_in_case_punctuation_and_space_are_equal():
    one, other = words("Return the SUM, of\n x_1."), words("return the sum of x_1")
    assert exact_hash(one) == exact_hash(other)
    assert exact_hash(words("return the sum of x_2")) != exact_hash(one)
    assert words("...") == ["..."]


def test_shingles_are_the_distinct_word_ngrams():
    assert shingles(list("abcab"), 2) == ["a b", "b c", "c a"]
    assert shingles(["a", "b"], 5) == ["a b"]


def share_of_candidates(similar: float, pairs: int) -> float:
    """Pairs of random texts with a share `similar` of one-word shingles in common that collide."""
    rng = random.Random(7)
    config = CONFIG.model_copy(update={"shingle_words": 1})
    size = 200
    shared = round(2 * size * similar / (1 + similar))  # Jaccard = shared / (2 size - shared)
    texts = []
    for _ in range(pairs):
        vocabulary = [str(rng.random()) for _ in range(2 * size - shared)]
        texts += [vocabulary[:size], vocabulary[size - shared :]]
    keys = band_keys(texts, config)
    return float((keys[::2] == keys[1::2]).any(axis=1).mean())


@pytest.mark.parametrize("similar", [0.5, 0.7, 0.8, 0.9])
def test_candidates_are_as_frequent_as_the_s_curve_says(similar: float):
    expected = 1 - (1 - similar**CONFIG.rows_per_band) ** CONFIG.bands
    assert share_of_candidates(similar, 400) == pytest.approx(expected, abs=0.1)


def test_keys_depend_on_text_and_seed_alone():
    texts = [words("the quick brown fox jumps over the lazy dog")]
    code = (
        "from llm.config.corpus import DedupConfig; from llm.corpus.minhash import *\n"
        "config = DedupConfig(shingle_words=5, bands=14, rows_per_band=8, seed=1)\n"
        "text = words('the quick brown fox jumps over the lazy dog')\n"
        "print(band_keys([text], config).tolist())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    keys = band_keys(texts, CONFIG)
    assert keys.shape == (1, 14)
    assert str(keys.tolist()) == other.stdout.strip()
    reseeded = band_keys(texts, CONFIG.model_copy(update={"seed": 2}))
    assert not (reseeded == keys).any()


def test_no_texts_have_no_keys():
    assert band_keys([], CONFIG).shape == (0, 14)


@given(st.lists(st.integers(0, 5), max_size=20))
def test_the_root_of_a_cluster_is_its_first_document(keys: list[int]):
    clusters = Clusters(len(keys))
    join_equal(clusters, np.array(keys, np.uint64), np.arange(len(keys)))
    assert [clusters.root(n) for n in range(len(keys))] == [keys.index(key) for key in keys]


def test_clusters_join_over_bands():
    clusters = Clusters(6)
    join_equal(clusters, np.array([7, 8, 7], np.uint64), np.array([1, 3, 5]))
    join_equal(clusters, np.array([9, 9, 1], np.uint64), np.array([3, 5, 4]))
    assert [clusters.root(n) for n in range(6)] == [0, 1, 2, 1, 4, 1]
