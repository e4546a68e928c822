import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api import metrics as lm_eval_metrics

from evals.significance import (
    bootstrap_interval,
    mean_of_means,
    mean_stderr,
    paired_difference,
    ratio_stderr,
)

SCORES = st.lists(st.floats(0, 1), min_size=2, max_size=50)


@given(SCORES)
def test_the_standard_error_is_lm_evals(values: list[float]) -> None:
    mean, stderr = mean_stderr(values)
    assert mean == pytest.approx(lm_eval_metrics.mean(values))
    assert stderr == pytest.approx(lm_eval_metrics.mean_stderr(values), abs=1e-9)


@given(SCORES)
def test_a_ratio_over_items_of_equal_size_is_a_mean(values: list[float]) -> None:
    ratio, stderr = ratio_stderr([4 * value for value in values], [4.0] * len(values))
    assert (ratio, stderr) == pytest.approx(mean_stderr(values), abs=1e-9)


def test_the_ratios_standard_error_is_the_spread_over_repeated_samples() -> None:
    generator = np.random.default_rng(0)
    ratios, stderrs = [], []
    for _ in range(2000):
        sizes = generator.integers(50, 500, size=100).astype(float)
        bits = sizes * generator.normal(2.0, 0.3, size=100)
        ratio, stderr = ratio_stderr(bits.tolist(), sizes.tolist())
        ratios.append(ratio)
        stderrs.append(stderr)
    assert np.mean(stderrs) == pytest.approx(np.std(ratios), rel=0.05)


def test_a_mean_of_means_weighs_tasks_equally() -> None:
    mean, stderr = mean_of_means([(0.2, 0.03), (0.6, 0.04)])
    assert mean == pytest.approx(0.4)
    assert stderr == pytest.approx(math.hypot(0.03, 0.04) / 2)


def test_a_pairs_difference_does_not_see_what_both_share() -> None:
    before = [0.1, 0.9, 0.4, 0.7]
    gain, stderr = paired_difference([value + 0.25 for value in before], before)
    assert gain == pytest.approx(0.25)
    assert stderr == pytest.approx(0, abs=1e-12)


def test_the_bootstrap_interval_is_the_normal_one_for_many_values() -> None:
    values = np.random.default_rng(1).normal(0.6, 0.2, size=400).tolist()
    mean, stderr = mean_stderr(values)
    low, high = bootstrap_interval(values, seed=3)
    assert low == pytest.approx(mean - 1.96 * stderr, abs=0.002)
    assert high == pytest.approx(mean + 1.96 * stderr, abs=0.002)
    assert (low, high) == bootstrap_interval(values, seed=3)
