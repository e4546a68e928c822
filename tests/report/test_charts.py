import re

import pytest

from llm.report import charts

SCORES = [
    {"task": "import", "model": model, "score": score, "low": score - 0.05, "high": score + 0.05}
    for model, score in (("base", 0.1), ("sft", 0.7), ("dpo", 0.8))
]
CURVE = [
    {"series": name, "step": step, "value": 5 / step}
    for name in ("train", "validation")
    for step in range(1, 2000, 1 if name == "train" else 100)
]
BARS = [
    {"stage": "gathered", "documents": 100, "label": "100 (100 %)"},
    {"stage": "filtered", "documents": 50, "label": "50 (50 %)"},
]


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]+)</text>", svg)


def test_every_bar_has_its_name_and_its_label() -> None:
    shown = texts(charts.bar_chart(BARS, "two bars"))
    assert {"gathered", "filtered", "100 (100 %)", "50 (50 %)"} <= set(shown)


def test_a_bar_is_as_long_as_its_count() -> None:
    svg = charts.bar_chart(BARS, "two bars")
    first, second = re.findall(r'aria-roledescription="bar" d="M0,0h([\d.]+)v', svg)
    assert float(second) == pytest.approx(float(first) / 2)


def test_every_model_and_interval_is_drawn() -> None:
    svg = charts.score_chart(SCORES, "exact match", "three points")
    assert {"base", "sft", "dpo", "import", "exact match"} <= set(texts(svg))
    for model in ("base", "sft", "dpo"):
        assert svg.count(charts.PALETTE[model]) >= 2  # the interval and its point


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    thinned = charts.thin([row for row in CURVE if row["series"] == "train"])
    assert len(thinned) <= charts.MOST_POINTS + 1
    assert thinned[0]["step"] == 1
    assert thinned[-1]["step"] == 1999


@pytest.mark.parametrize(
    "draw",
    [
        lambda text: charts.bar_chart(BARS, text),
        lambda text: charts.curve_chart(CURVE, "loss", text),
        lambda text: charts.score_chart(SCORES, "score", text),
    ],
)
def test_a_chart_is_one_named_picture_in_the_pages_colours(draw) -> None:
    svg = draw('losses "fall" & end')
    assert svg.startswith('<svg role="img" aria-label="losses &quot;fall&quot; &amp; end" ')
    assert 'fill="currentColor"' in svg
    assert "#000" not in svg
    assert 'fill="white"' not in svg
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])  # pyright: ignore
    assert width <= 345  # of a phone
    assert svg == draw('losses "fall" & end')


def test_a_heat_map_has_every_layer_and_few_columns_the_last_among_them() -> None:
    rows = [
        {"step": step, "layer": layer, "norm": 1.0 / step}
        for step in range(1, 201)
        for layer in ("embed", "block_00", "head")
    ]
    svg = charts.heat_chart(rows, "norms")
    assert {"embed", "block_00", "head", "200"} <= set(texts(svg))
    assert svg.count('aria-roledescription="rect mark"') == 3 * 50
