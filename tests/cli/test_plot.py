"""Curves as braille: the scale is the data's, and every dot is where its value is."""

import math

from llm.cli.plot import EMPTY, HEIGHT, WIDTH, plot


def rows(text: str) -> list[str]:
    return [line.split("│")[1] for line in text.splitlines() if "│" in line]


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right() -> None:
    text = plot("loss", {"a": [(0, 4.0), (100, 1.0)]}).plain
    frame = rows(text)
    assert len(frame) == HEIGHT
    assert all(len(row) == WIDTH for row in frame)
    assert ord(frame[0][0]) & 0x01  # the upper left dot of the upper left cell
    assert ord(frame[-1][-1]) & 0x80  # the lower right one of the lower right cell
    first = [min(i for i, cell in enumerate(row) if ord(cell) > EMPTY) for row in frame]
    assert first == sorted(first)
    assert "        4 │" in text
    assert "        1 │" in text
    assert "a: 4 → 1" in text


def test_a_level_line_lies_in_the_middle() -> None:
    frame = rows(plot("loss", {"a": [(0, 2.0), (9, 2.0)]}).plain)
    assert [n for n, row in enumerate(frame) if row.strip()] == [HEIGHT // 2]


def test_what_is_not_finite_is_left_out() -> None:
    text = plot("loss", {"a": [(0, math.nan), (1, 3.0), (2, 2.0)], "b": [(0, math.inf)]}).plain
    assert "a: 3 → 2" in text
    assert "b:" not in text
    assert plot("loss", {"b": [(0, math.inf)]}).plain == "loss: no finite value"
