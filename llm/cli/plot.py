"""Curves in a terminal: lines of braille dots, each run in its colour."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.text import Text

COLOURS = ("cyan", "yellow", "magenta", "green", "red", "blue")
WIDTH, HEIGHT = 60, 9  # characters; each has 2 x 4 dots
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille character, by row
EMPTY = 0x2800

Points = Sequence[tuple[float, float]]  # step, value


def plot(title: str, lines: Mapping[str, Points]) -> Text:
    """The lines in one frame, the scales at its edges, and where each begins and ends."""
    shown = {
        name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in lines.items()
    }
    drawn = {name: points for name, points in shown.items() if points}
    every = [point for points in drawn.values() for point in points]
    if not every:
        return Text(f"{title}: no finite value")
    (left, right), (low, high) = (_span([point[axis] for point in every]) for axis in (0, 1))
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for index, points in enumerate(drawn.values()):
        places = [
            (_place(x, left, right, 2 * WIDTH), _place(y, high, low, 4 * HEIGHT)) for x, y in points
        ]
        for column, row in _joined(places):
            cell = (row // 4, column // 2)
            bits = cells.get(cell, (0, ""))[0] | DOTS[row % 4][column % 2]
            cells[cell] = (bits, COLOURS[index % len(COLOURS)])
    text = Text(f"{title}\n")
    for row in range(HEIGHT):
        edge = {0: f"{high:.5g}", HEIGHT - 1: f"{low:.5g}"}.get(row, "")
        text.append(f"{edge:>9} │", style="dim")
        for column in range(WIDTH):
            bits, colour = cells.get((row, column), (0, ""))
            text.append(chr(EMPTY + bits) if bits else " ", style=colour)
        text.append("\n")
    text.append(f"{'':>9} └{'─' * WIDTH}\n", style="dim")
    ends = f"{left:,.0f}", f"{right:,.0f}"
    text.append(f"{'':>11}{ends[0]:<{WIDTH - len(ends[1])}}{ends[1]}\n", style="dim")
    for index, (name, points) in enumerate(drawn.items()):
        text.append(f"{'':>11}")
        text.append("━━ ", style=COLOURS[index % len(COLOURS)])
        text.append(f"{name}: {points[0][1]:.5g} → {points[-1][1]:.5g}\n")
    return text


def _span(values: Sequence[float]) -> tuple[float, float]:
    """The least and the most, a little apart where they are the same."""
    low, high = min(values), max(values)
    if low == high:
        return low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    return low, high


def _place(value: float, first: float, last: float, dots: int) -> int:
    """The dot that a value falls on, from `first` at dot 0 to `last` at the last one."""
    return round((value - first) / (last - first) * (dots - 1))


def _joined(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The places and the dots between them."""
    dots = [places[0]]
    for (x0, y0), (x1, y1) in pairwise(places):
        n = max(abs(x1 - x0), abs(y1 - y0), 1)
        dots += [
            (x0 + round((x1 - x0) * i / n), y0 + round((y1 - y0) * i / n)) for i in range(1, n + 1)
        ]
    return dots
