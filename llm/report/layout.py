"""Where the boxes of a small directed graph go: in layers from top to bottom, few crossings.

The steps are Sugiyama's (1981): longest-path layers, points along edges that skip layers,
an order within each layer by the mean place of the neighbours, then positions. The same
graph gives the same picture.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import networkx

SWEEPS = 8

Edge = tuple[str, str]
Point = tuple[float, float]
Key = Any  # a node's name, or (edge, layer) for a point on the way


@dataclass(frozen=True)
class Layout:
    """Centres of the boxes, and for each edge the points from box to box."""

    boxes: dict[str, Point]
    paths: dict[Edge, list[Point]]
    width: float
    height: float


def layout(
    names: Sequence[str],
    edges: Iterable[Edge],
    *,
    box: tuple[float, float],
    gap: tuple[float, float],
) -> Layout:
    """Place boxes of one size, at least `gap` apart; an edge that a longer path implies is left out."""
    graph = networkx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(edges)
    graph = networkx.transitive_reduction(graph)
    layer_of = _layers(names, graph)
    chains = {edge: _chain(edge, layer_of) for edge in sorted(graph.edges, key=_by(names))}
    layers = _ordered(names, layer_of, chains)
    x = _positions(layers, chains, box[0], gap[0])
    y = {key: n * (box[1] + gap[1]) + box[1] / 2 for n, layer in enumerate(layers) for key in layer}
    left = min(x.values()) - box[0] / 2
    boxes = {name: (x[name] - left, y[name]) for name in names}
    paths = {edge: [(x[key] - left, y[key]) for key in chain] for edge, chain in chains.items()}
    width = max(x.values()) + box[0] / 2 - left
    return Layout(boxes, paths, width, len(layers) * (box[1] + gap[1]) - gap[1])


def _layers(names: Sequence[str], graph: networkx.DiGraph) -> dict[str, int]:
    """Below all that it needs; what nothing leads to, right above what it leads to."""
    layer_of: dict[str, int] = {}
    for name in networkx.lexicographical_topological_sort(graph, key=list(names).index):
        layer_of[name] = max((layer_of[each] + 1 for each in graph.predecessors(name)), default=0)
    for name in names:
        if not graph.in_degree(name) and graph.out_degree(name):
            layer_of[name] = min(layer_of[each] for each in graph.successors(name)) - 1
    return layer_of


def _chain(edge: Edge, layer_of: Mapping[str, int]) -> list[Key]:
    start, end = edge
    between = range(layer_of[start] + 1, layer_of[end])
    return [start, *((edge, layer) for layer in between), end]


def _ordered(
    names: Sequence[str], layer_of: Mapping[str, int], chains: Mapping[Edge, list[Key]]
) -> list[list[Key]]:
    """The layers, each ordered so that few edges cross."""
    layers: list[list[Key]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for name in names:
        layers[layer_of[name]].append(name)
    for chain in chains.values():
        for key in chain[1:-1]:
            layers[key[1]].append(key)
    above, below = _neighbours(chains)
    for sweep in range(SWEEPS):
        near = above if sweep % 2 == 0 else below
        ordered = layers if sweep % 2 == 0 else layers[::-1]
        for fixed, moved in pairwise(ordered):
            place = {key: n for n, key in enumerate(fixed)}
            own = {key: n for n, key in enumerate(moved)}
            moved.sort(key=lambda key: _mean([place[each] for each in near[key]], own[key]))
    return layers


def _positions(
    layers: list[list[Key]], chains: Mapping[Edge, list[Key]], width: float, gap: float
) -> dict[Key, float]:
    """x of every box and point: near its neighbours', in order, never closer than the gap."""
    above, below = _neighbours(chains)
    x = {key: n * (width + gap) for layer in layers for n, key in enumerate(layer)}
    for sweep in range(SWEEPS):
        near = (above, below)[sweep % 2]
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            wished = [_mean([x[each] for each in near[key]], x[key]) for key in layer]
            apart = [(_width(a, width) + _width(b, width)) / 2 + gap for a, b in pairwise(layer)]
            x |= zip(layer, _spread(wished, apart), strict=True)
    return x


def _spread(wished: list[float], apart: list[float]) -> list[float]:
    """The wished places, moved as far as the distances between neighbours demand."""
    right, left = wished[:], wished[:]
    for n, distance in enumerate(apart):
        right[n + 1] = max(right[n + 1], right[n] + distance)
    for n, distance in reversed(list(enumerate(apart))):
        left[n] = min(left[n], left[n + 1] - distance)
    return [(a + b) / 2 for a, b in zip(right, left, strict=True)]


def _neighbours(chains: Mapping[Edge, list[Key]]) -> tuple[dict[Key, list], dict[Key, list]]:
    above: dict[Key, list] = defaultdict(list)
    below: dict[Key, list] = defaultdict(list)
    for chain in chains.values():
        for upper, lower in pairwise(chain):
            above[lower].append(upper)
            below[upper].append(lower)
    return above, below


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _width(key: Key, width: float) -> float:
    return width if isinstance(key, str) else 0.0


def _by(names: Sequence[str]):
    place = {name: n for n, name in enumerate(names)}
    return lambda edge: (place[edge[0]], place[edge[1]])
