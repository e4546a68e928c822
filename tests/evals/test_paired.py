"""Scores of two models compared item by item."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from evals.paired import compare_scores, p_worse
from evals.significance import paired_difference
from llm.errors import EvaluationError


def answers(right: str) -> dict:
    """A task's score; an item is right where the text has a 1."""
    rows = [{"id": str(i), "correct": mark == "1"} for i, mark in enumerate(right)]
    score = right.count("1") / len(right)
    return {"metric": "exact_match", "n": len(right), "score": score, "samples": rows}


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_sign_test_is_scipys(wins: int, losses: int) -> None:
    expected = 1.0
    if wins + losses:
        expected = binomtest(losses, wins + losses, alternative="greater").pvalue
    assert p_worse(wins, losses) == pytest.approx(expected)


def test_only_items_that_differ_count() -> None:
    found = compare_scores({"t": answers("1100110011")}, {"t": answers("1111000011")})
    row = found["tasks"]["t"]
    assert (row["wins"], row["losses"], row["n"]) == (2, 2, 10)
    assert row["p_worse"] == pytest.approx(11 / 16)
    same = compare_scores({"t": answers("1010")}, {"t": answers("1010")})["tasks"]["t"]
    assert (same["wins"], same["losses"], same["p_worse"]) == (0, 0, 1.0)


def test_bits_per_byte_differ_by_the_ratio_of_sums() -> None:
    def bits(*values: float) -> dict:
        rows = [{"id": str(i), "bits": value, "bytes": 100} for i, value in enumerate(values)]
        return {"metric": "bpb", "n": len(rows), "score": sum(values) / 300, "samples": rows}

    ours, theirs = (220.0, 180.0, 260.0), (200.0, 190.0, 240.0)
    row = compare_scores({"t": bits(*ours)}, {"t": bits(*theirs)})["bpb"]["t"]
    difference, stderr = paired_difference(ours, theirs)
    assert row["increase"] == pytest.approx(difference / 100)
    assert row["stderr"] == pytest.approx(stderr / 100, abs=1e-6)
    assert math.isclose(row["increase"], row["candidate"] - row["champion"], abs_tol=1e-6)


def test_different_items_are_refused() -> None:
    others = answers("10")
    others["samples"] = [{**row, "id": f"x{row['id']}"} for row in others["samples"]]
    with pytest.raises(EvaluationError, match="not given the same items"):
        compare_scores({"t": answers("10")}, {"t": others})
