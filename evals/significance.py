"""Standard errors and confidence intervals of scores.

Items are taken as independent draws. Two models that answered the same items are compared
item by item: the paired difference is much sharper than two separate standard errors.
"""

import math
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def mean_stderr(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error, s / sqrt(n) with Bessel's correction (lm-eval's `mean_stderr`).

    A single value has no spread to measure: its standard error is 0.
    """
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 1:
        return float(array[0]), 0.0
    return float(array.mean()), float(array.std(ddof=1) / math.sqrt(len(array)))


def ratio_stderr(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, float]:
    """sum(numerators) / sum(denominators) and its standard error, for bits per byte over documents.

    The linearised (delta method) estimate: residuals of each item around the ratio
    (Cochran, Sampling Techniques, 1977, section 6.3).
    """
    top, bottom = (
        np.asarray(numerators, np.float64),
        np.asarray(denominators, np.float64),
    )
    ratio = float(top.sum() / bottom.sum())
    _, stderr = mean_stderr((top - ratio * bottom).tolist())
    return ratio, stderr / float(bottom.mean())


def mean_of_means(scores: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Unweighted mean of independent (mean, standard error) pairs, and its standard error."""
    count = len(scores)
    mean = sum(score for score, _ in scores) / count
    return mean, math.sqrt(sum(stderr**2 for _, stderr in scores)) / count


def paired_difference(after: Sequence[float], before: Sequence[float]) -> tuple[float, float]:
    """Mean of after - before over the same items, and its standard error."""
    return mean_stderr([a - b for a, b in zip(after, before, strict=True)])


def bootstrap_interval(
    values: Sequence[float], *, seed: int, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean, the same for the same values and seed."""
    array = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 500):  # bounds memory
        index = generator.integers(0, len(array), size=(500, len(array)))
        means[start : start + 500] = array[index].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
