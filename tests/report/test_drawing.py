"""The drawing shows every stage once, in an order in which each is below all that it needs."""

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from llm.report.drawing import BOX, GAP, draw, figures, lineage_graph, main_out
from llm.report.layout import layout

OUTS = {
    "gather": {"data/gather": "a1b2c3d4e5.dir", "metrics/gather.json": "00"},
    "tokenizer": {"data/tokenizer": "b1b2c3d4e5.dir"},
    "tokenize": {"data/tokenize": "c1b2c3d4e5.dir"},
}
DEPS = {
    "gather": ["llm/files.py"],
    "tokenizer": ["data/gather"],
    "tokenize": ["data/gather", "data/tokenizer"],
}
METRICS = {
    "gather": {"documents": 1234, "by_source": {"<docs>": {"documents": 1234, "bytes": 5_000_000}}},
    "tokenize": {"train": {"tokens": 5_000_000}, "val": {"tokens": 100}},
}


@st.composite
def graphs(draw_) -> tuple[list[str], set[tuple[str, str]]]:
    names = [f"n{number}" for number in range(draw_(st.integers(1, 12)))]
    pairs = list(itertools.combinations(names, 2))
    return names, draw_(st.sets(st.sampled_from(pairs))) if pairs else set()


@given(graphs())
def test_every_box_is_below_what_it_needs_and_none_touch(
    graph: tuple[list[str], set[tuple[str, str]]],
) -> None:
    names, edges = graph
    placed = layout(names, edges, box=BOX, gap=GAP)
    for upper, lower in edges:
        assert placed.boxes[upper][1] < placed.boxes[lower][1]
    for one, two in itertools.combinations(names, 2):
        (ax, ay), (bx, by) = placed.boxes[one], placed.boxes[two]
        assert abs(ay - by) >= BOX[1] or abs(ax - bx) >= BOX[0] + GAP[0] - 1e-6
    for x, y in placed.boxes.values():
        assert x - BOX[0] / 2 >= -1e-6
        assert x + BOX[0] / 2 <= placed.width + 1e-6
        assert y + BOX[1] / 2 <= placed.height + 1e-6
    assert layout(names, edges, box=BOX, gap=GAP) == placed


def test_an_arrow_that_a_longer_path_implies_is_left_out() -> None:
    nodes, edges = lineage_graph(OUTS, DEPS, METRICS)
    assert ("gather", "tokenize") in edges
    placed = layout([node.name for node in nodes], edges, box=BOX, gap=GAP)
    assert set(placed.paths) == {
        ("source <docs>", "gather"),
        ("gather", "tokenizer"),
        ("tokenizer", "tokenize"),
    }


def test_a_box_has_stage_hash_and_counts_and_what_is_said_is_escaped() -> None:
    svg = draw(*lineage_graph(OUTS, DEPS, METRICS), "A graph of <things>.")
    shown = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert {"gather", "a1b2c3d4", "1,234 documents", "5,000,000 tokens, val 100"} <= set(shown)
    assert "source &lt;docs&gt;" in shown
    assert 'aria-label="A graph of &lt;things&gt;."' in svg
    assert "data/gather a1b2c3d4e5.dir" in svg  # all of it, for a pointer


def test_the_main_out_is_the_stages_folder() -> None:
    assert main_out(OUTS["gather"], "gather") == ("data/gather", "a1b2c3d4e5.dir")
    assert main_out({}, "judge") == ("judge", "")


def test_a_figure_that_is_missing_is_left_out() -> None:
    assert figures("pretrain", {"tokens": 1000}) == "1,000 tokens"
    assert figures("pretrain", {}) == ""
    assert figures("instructions", {"train": {"import": 2, "type": 3}}) == "5 to train"
    assert figures("report", {"anything": 1}) == ""
