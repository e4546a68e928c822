"""MinHash-LSH against what theory says of it."""

import numpy as np
import pytest

from llm.config.params import load_params
from llm.corpus.minhash import band_keys, probability, shingles, signatures, threshold
from llm.corpus.words import Words
from tests.conftest import ROOT

CONFIG = load_params(ROOT / "params.yaml").dedup


def texts(*each: list[int]) -> Words:
    """Texts of words that have these hashes."""
    starts = np.cumsum([0, *map(len, each)])
    return Words(np.array([word for text in each for word in text], np.uint64), starts)


def test_shingles_are_the_word_ngrams_of_each_text_alone():
    hashes, starts = shingles(texts([1, 2, 3, 1, 2], [9], [1, 2], [2, 3, 1]), 2)
    assert starts.tolist() == [0, 4, 5, 6, 8]
    assert hashes[0] == hashes[3] == hashes[5]  # 1 2, wherever it is
    assert hashes[1] == hashes[6]  # 2 3
    assert hashes[2] == hashes[7]  # 3 1
    assert len(set(hashes.tolist())) == 4  # and 9, alone


def pairs(similarity: float, count: int) -> Words:
    """Pairs of texts that share so much of their words, which are their shingles."""
    rng = np.random.default_rng(7)
    size = 300
    shared = round(2 * size * similarity / (1 + similarity))  # Jaccard: shared / (2 size - shared)
    made = []
    for _ in range(count):
        words = rng.integers(0, 2**64, 2 * size - shared, np.uint64).tolist()
        made += [words[:size], words[size - shared :]]
    return texts(*made)


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.75, 0.8, 0.9])
def test_pairs_are_found_as_often_as_the_curve_says(similarity: float):
    config = CONFIG.model_copy(update={"shingle_words": 1})
    keys = band_keys(pairs(similarity, 500), config)
    found = (keys[:, ::2] == keys[:, 1::2]).any(axis=0).mean()
    expected = probability(similarity, CONFIG)
    deviation = (expected * (1 - expected) / 500) ** 0.5
    assert found == pytest.approx(expected, abs=4 * deviation + 0.01)


def test_rows_agree_as_often_as_the_texts_are_similar():
    config = CONFIG.model_copy(update={"shingle_words": 1})
    rows = signatures(pairs(0.6, 500), config)
    agree = rows[:, ::2] == rows[:, 1::2]
    assert agree.mean() == pytest.approx(0.6, abs=0.01)
    assert agree.mean(axis=0).std() == pytest.approx((0.6 * 0.4 / 112) ** 0.5, rel=0.15)


def test_the_curve_is_fineweb_s():
    assert (CONFIG.bands, CONFIG.rows_per_band, CONFIG.shingle_words) == (14, 8, 5)
    assert threshold(CONFIG) == pytest.approx(0.719, abs=0.001)
    # Penedo et al. 2024, 3.1: pairs of similarity 0.7, 0.75, 0.8 and 0.85
    found = [probability(similarity, CONFIG) for similarity in (0.7, 0.75, 0.8, 0.85)]
    assert found == pytest.approx([0.56, 0.77, 0.92, 0.988], abs=0.01)


def test_keys_depend_on_text_and_seed_alone():
    one = texts([1, 2, 3, 4, 5, 6])
    keys = band_keys(one, CONFIG)
    assert keys.shape == (14, 1)
    many = band_keys(texts(*([number] for number in range(300)), [1, 2, 3, 4, 5, 6]), CONFIG)
    assert (many[:, -1:] == keys).all()
    assert not (band_keys(one, CONFIG.model_copy(update={"seed": 2})) == keys).any()


def test_no_texts_have_no_keys():
    assert band_keys(texts(), CONFIG).shape == (14, 0)
