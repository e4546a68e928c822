"""The page is one file that shows every point, and draws what differs."""

import re
from html.parser import HTMLParser

import pytest

from llm.sweep.charts import STANDINGS, axis_of, standings, swept_keys
from llm.sweep.page import curve_column, render_sweep
from llm.sweep.plan import identity
from tests.sweep.plans import plan
from tests.sweep.rows import curve, rows_of

GRID = plan(space={"pretrain.optim.lr": [1e-4, 1e-3, 1e-2], "model.n_layer": [2, 4]})
ROWS = rows_of(GRID, [4.0, 3.9, 3.0, 3.1, None, 4.2])


def texts(page: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", page)


def test_every_point_is_a_row_and_the_best_is_marked() -> None:
    page = render_sweep("calm-hare", GRID, ROWS, ["point 7: refused <b>"])
    assert page.count("<code>run/calm-hare-") == 6
    assert page.count("★") == 1
    assert "point 3: pretrain.optim.lr=0.001, model.n_layer=2" in page
    assert "no such luck" in page
    assert "point 7: refused &lt;b&gt;" in page
    assert "5 of 6" in page


def test_the_page_asks_for_nothing_else() -> None:
    page = render_sweep("calm-hare", GRID, ROWS, [])
    assert not re.search(r"<(script|link|img|iframe)\b|@import|url\((?!#)", page)
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    HTMLParser().feed(page)
    assert page == render_sweep("calm-hare", GRID, ROWS, [])


def test_params_metric_and_curves_are_drawn() -> None:
    shown = texts(render_sweep("calm-hare", GRID, ROWS, []))
    assert {"pretrain.optim.lr", "model.n_layer", "pretrain/val/loss (lower is better)"} <= set(
        shown
    )
    assert {"1e-4", "0.001", "0.01", "2", "4", "step", "val/loss"} <= set(shown)
    assert set(STANDINGS) <= set(shown)


def test_seeds_are_shown_as_means_with_errors() -> None:
    seeds = plan(method="seeds", space={"model.n_layer": [2, 4]}, samples=3)
    page = render_sweep("owl", seeds, rows_of(seeds, [1, 2, 3, 1.8, 1.9, 2], ["sft"]), [])
    assert "model.n_layer=2: 2 ± 0.58 (n=3)" in texts(page)
    assert "0.1 behind (0.2 standard errors)" in page
    alone = plan(method="seeds", space={}, samples=2)
    page = render_sweep("owl", alone, rows_of(alone, [1, 2], ["sft"]), [])
    assert "as in params.yaml: 1.5 ± 0.5 (n=2)" in texts(page)


@pytest.mark.parametrize("values", [[None] * 6, [1.0] + [None] * 5, [2.0] * 6])
def test_a_sweep_with_few_or_equal_results_has_a_page(values: list[float | None]) -> None:
    assert "Sweep calm-hare" in render_sweep("calm-hare", GRID, rows_of(GRID, values), [])


def test_points_stand_by_their_value() -> None:
    assert standings(ROWS, "min") == {
        1: "others",
        2: "better half",
        3: "best",
        4: "better half",
        5: "no result",
        6: "others",
    }
    assert standings(ROWS, "max")[6] == "best"


def test_an_axis_orders_numbers_and_takes_their_logarithm_when_they_span_much() -> None:
    wide = axis_of("lr", [1e-2, 1e-4, 1e-3])
    assert [wide.places[identity(value)] for value in (1e-4, 1e-3, 1e-2)] == pytest.approx(
        [0, 0.5, 1]
    )
    narrow = axis_of("n", [2, 4, 3])
    assert [narrow.places[identity(value)] for value in (2, 3, 4)] == [0, 0.5, 1]
    words = axis_of("precision", ["fp32", "bf16", None])
    assert [text for _, text in words.labels] == ["fp32", "null", "bf16"]
    assert axis_of("one", [5, 5]).places == {"5": 0.5}


def test_only_params_that_differ_have_an_axis() -> None:
    fixed = plan(space={"pretrain.optim.lr": [1e-3], "model.n_layer": [2, 4]})
    assert swept_keys(rows_of(fixed, [1.0, 2.0])) == ["model.n_layer"]


def test_a_curve_is_drawn_of_the_metric_where_it_is_a_line() -> None:
    assert curve_column("pretrain", "pretrain/val/loss", "pretrain", [curve(1.0)]) == "val/loss"
    short = [row for row in curve(1.0) if row["step"] < 20]
    assert curve_column("pretrain", "pretrain/val/loss", "pretrain", [short]) == "train/loss"
    assert curve_column("benchmark", "benchmark/sft.acc", "pretrain", [curve(1.0)]) == "val/loss"
    assert curve_column("pretrain", "pretrain/val/loss", "pretrain", [[{"step": 1.0}]]) is None
