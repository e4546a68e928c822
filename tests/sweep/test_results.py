"""The best is the best mean; errors are those of the mean; a metric is found by its name."""

import json
import math

import pytest

from llm.sweep.results import best_group, best_row, find_metric, groups, record, table
from tests.sweep.plans import plan
from tests.sweep.rows import rows_of

SEEDS = plan(method="seeds", space={"model.n_layer": [2, 4]}, samples=3)
KEYS = ["pretrain"]
# by hand: means 2.0 and 1.9; deviations -1 0 1 and -0.1 0 0.1; errors 1/sqrt(3), 0.1/sqrt(3)
VALUES = [1.0, 2.0, 3.0, 1.8, 1.9, 2.0]


def test_means_and_their_errors_are_over_the_seeds_of_a_point() -> None:
    first, second = groups(rows_of(SEEDS, VALUES, KEYS))
    assert (first.mean, first.stderr) == (2.0, pytest.approx(1 / math.sqrt(3)))
    assert (second.mean, second.stderr) == (pytest.approx(1.9), pytest.approx(0.1 / math.sqrt(3)))
    assert str(second) == "model.n_layer=4"


def test_the_best_is_of_the_best_mean_not_the_luckiest_seed() -> None:
    rows = rows_of(SEEDS, VALUES, KEYS)
    best = best_row(rows, "min")
    assert best is not None
    assert best.point.overrides == {"model.n_layer": 4, "pretrain.seed": 1}
    most = best_row(rows, "max")
    assert most is not None
    assert most.point.overrides == {"model.n_layer": 2, "pretrain.seed": 3}


def test_a_failed_point_has_no_part_in_mean_or_best() -> None:
    rows = rows_of(SEEDS, [None, 2.0, None, None, None, None], KEYS)
    first, second = groups(rows)
    assert (first.mean, first.stderr, second.mean, second.stderr) == (2.0, None, None, None)
    assert best_group(rows, "min") == first
    assert best_row(rows_of(SEEDS, [None] * 6, KEYS), "min") is None


METRICS = {
    "pretrain/val/loss": 4.0,
    "benchmark/sft.exact_match": 0.5,
    "benchmark/sft.exact_match_stderr": 0.1,
    "benchmark/sft.docs_import.acc": 0.25,
    "benchmark/sft.docs_import.stderr": 0.05,
}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pretrain/val/loss", (4.0, None)),
        ("benchmark/sft.exact_match", (0.5, 0.1)),
        ("benchmark/sft/exact_match", (0.5, 0.1)),
        ("benchmark/sft/docs_import/acc", (0.25, 0.05)),
        ("pretrain/val/bpb", None),
        ("loss", None),
    ],
)
def test_a_metric_is_found_with_its_error_dots_or_slashes(
    name: str, found: tuple[float, float | None] | None
) -> None:
    assert find_metric(METRICS, name) == found


def test_the_table_and_the_record_say_every_point_and_which_is_best() -> None:
    grid = plan(space={"pretrain.seed": [1, 2, 13]})
    rows = rows_of(grid, [3.0, 2.0, None])
    shown = table(rows, grid)
    assert [row["best"] for row in shown] == ["", "★", ""]
    assert [row["state"] for row in shown] == ["completed", "completed", "failed"]
    assert shown[2]["note"] == "no such luck"
    kept = json.loads(json.dumps(record("calm-hare", grid, rows, ["point 4: no"])))
    assert kept["best"] == 2
    assert [row["values"] for row in kept["rows"]] == [{"pretrain.seed": n} for n in (1, 2, 13)]
    assert kept["groups"][0] == {
        "values": {"pretrain.seed": 1},
        "n": 1,
        "mean": 3.0,
        "stderr": None,
    }
    assert kept["skipped"] == ["point 4: no"]
