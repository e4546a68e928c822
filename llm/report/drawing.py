"""The graph of a run or a version as inline SVG: every stage, what it wrote, how much that is."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from llm.report.layout import Edge, Layout, Point, layout

BOX = (208.0, 42.0)  # px
GAP = (28.0, 26.0)
MARGIN = 3.0
SHORT_HASH = 8
INK = "currentColor"
FONT = "Arial, Helvetica, Liberation Sans, sans-serif"
MONO = "ui-monospace, Menlo, Consolas, monospace"
COLOURS = {
    "source": "#2f9e8f",
    "corpus": "#3f87cf",
    "tokenizer": "#7d9a2c",
    "data": "#8a63b8",
    "model": "#e07b2e",
    "evaluation": "#8b93a1",
    "version": "#c99a17",
}
KINDS = {
    "gather": "corpus",
    "extract": "corpus",
    "filter": "corpus",
    "dedup": "corpus",
    "decontaminate": "corpus",
    "tokenizer": "tokenizer",
    "tokenize": "tokenizer",
    "instructions": "data",
    "preferences": "data",
    "pretrain": "model",
    "sft": "model",
    "reward": "model",
    "dpo": "model",
}
COUNTS: dict[str, tuple[tuple[str, str], ...]] = {  # stage to (path in its metrics, words)
    "gather": (("documents", "{:,} documents"),),
    "extract": (("documents_kept", "{:,} documents"),),
    "filter": (("documents_kept", "{:,} documents"),),
    "dedup": (("documents_kept", "{:,} documents"),),
    "decontaminate": (("documents_kept", "{:,} documents"), ("heldout", "{:,} held out")),
    "tokenizer": (("vocab_size", "{:,} ids"), ("bytes_per_token", "{:.2f} bytes each")),
    "tokenize": (("train/tokens", "{:,} tokens"), ("val/tokens", "val {:,}")),
    "pretrain": (("tokens", "{:,} tokens"), ("val/bpb", "{:.3f} bpb")),
    "instructions": (("train/*", "{:,} to train"), ("test/*", "{:,} to test")),
    "sft": (("val/loss", "validation loss {:.3f}"),),
    "preferences": (("train/pairs", "{:,} pairs to train"), ("test/pairs", "{:,} to test")),
    "reward": (("val/accuracy", "accuracy {:.3f}"),),
    "dpo": (("val/loss", "validation loss {:.3f}"),),
    "benchmark": (("dpo/exact_match", "dpo {:.3f}"), ("sft/exact_match", "sft {:.3f} exact")),
    "judge": (("win_rate", "dpo preferred {:.3f}"), ("pairs", "{:,} pairs")),
}


@dataclass(frozen=True)
class Node:
    """A box: a name, one line of figures, a hash, and all that it stands for in words."""

    name: str
    figures: str
    hash: str
    title: str
    kind: str


def figures(stage: str, metrics: Mapping[str, Any]) -> str:
    """What a stage's metrics say in a few words; nothing for what they lack."""
    shown = []
    for path, words in COUNTS.get(stage, ()):
        value = _value(metrics, path)
        if isinstance(value, (int, float)):
            shown.append(words.format(value))
    return ", ".join(shown)


def main_out(outs: Mapping[str, str], stage: str) -> tuple[str, str]:
    """Path and hash of what a stage is there for: its folder, before metrics, curves and timings."""
    ranked = sorted(outs.items(), key=lambda out: (not out[1].endswith(".dir"), out[0]))
    return ranked[0] if ranked else (stage, "")


def lineage_graph(
    outs: Mapping[str, Mapping[str, str]],
    deps: Mapping[str, Iterable[str]],
    metrics: Mapping[str, Mapping[str, Any]],
) -> tuple[list[Node], list[Edge]]:
    """The stages and the sources as boxes, and what was made from what.

    `outs` is path to md5 by stage, `deps` the paths that each stage read.
    """
    nodes = [_stage_node(stage, outs[stage], metrics.get(stage, {})) for stage in outs]
    made_by = {path: stage for stage in outs for path in outs[stage]}
    edges = [(made_by[dep], stage) for stage in outs for dep in deps[stage] if dep in made_by]
    sources = metrics.get("gather", {}).get("by_source", {})
    if "gather" in outs:
        nodes += [_source_node(name, counts) for name, counts in sources.items()]
        edges += [(f"source {name}", "gather") for name in sources]
    return nodes, edges


def draw(nodes: Sequence[Node], edges: Iterable[Edge], alt_text: str) -> str:
    """The graph as an SVG element, top to bottom, that takes the page's colours."""
    placed = layout([node.name for node in nodes], edges, box=BOX, gap=GAP)
    width, height = placed.width + 2 * MARGIN, placed.height + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{-MARGIN:g} {-MARGIN:g} {width:.0f} '
        f'{height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{html.escape(alt_text)}" font-family="{FONT}" font-size="12">',
        *(_arrow(path) for path in placed.paths.values()),
        *(_box(node, placed) for node in nodes),
        "</svg>",
    ]
    return "\n".join(parts)


def _stage_node(stage: str, outs: Mapping[str, str], metrics: Mapping[str, Any]) -> Node:
    said = figures(stage, metrics)
    _, hash_ = main_out(outs, stage)
    listed = "\n".join(f"{path} {md5}" for path, md5 in outs.items())
    title = f"{stage}: {said}\n{listed}"
    return Node(stage, said, hash_, title, KINDS.get(stage, "evaluation"))


def _source_node(name: str, counts: Mapping[str, int]) -> Node:
    said = f"{counts['documents']:,} documents, {counts['bytes'] / 1e6:.1f} MB"
    return Node(f"source {name}", said, "", f"source {name}: {said}", "source")


def _value(metrics: Mapping[str, Any], path: str) -> Any:
    """The metric at a path of slashes, whether nested or flat; `*` sums a mapping's numbers."""
    if path in metrics:
        return metrics[path]
    head, _, rest = path.partition("/")
    inner = metrics.get(head)
    if not rest or not isinstance(inner, Mapping):
        return None if rest else inner
    if rest == "*":
        return sum(value for value in inner.values() if isinstance(value, int))
    return _value(inner, rest)


def _box(node: Node, placed: Layout) -> str:
    x, y = placed.boxes[node.name][0] - BOX[0] / 2, placed.boxes[node.name][1] - BOX[1] / 2
    colour = COLOURS[node.kind]
    hash_ = html.escape(node.hash[:SHORT_HASH])
    return (
        f"<g><title>{html.escape(node.title)}</title>"
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX[0]:g}" height="{BOX[1]:g}" rx="5" '
        f'fill="{colour}" fill-opacity="0.10" stroke="{colour}" stroke-opacity="0.7"/>'
        f'<text x="{x + 9:.1f}" y="{y + 17:.1f}" fill="{INK}" font-weight="bold">'
        f"{html.escape(node.name)}</text>"
        f'<text x="{x + BOX[0] - 9:.1f}" y="{y + 17:.1f}" fill="{INK}" fill-opacity="0.65" '
        f'text-anchor="end" font-family="{MONO}" font-size="10.5">{hash_}</text>'
        f'<text x="{x + 9:.1f}" y="{y + 33:.1f}" fill="{INK}" fill-opacity="0.8" '
        f'font-size="11">{html.escape(node.figures)}</text></g>'
    )


def _arrow(points: Sequence[Point]) -> str:
    """A curve from the lower edge of the first box to the upper edge of the last, with its head."""
    half = BOX[1] / 2
    (x, y), (end_x, end_y) = points[0], points[-1]
    passed = [(px, py + side) for px, py in points[1:-1] for side in (-half, half)]
    stops = [(x, y + half), *passed, (end_x, end_y - half - 6)]
    path = [f"M{stops[0][0]:.1f},{stops[0][1]:.1f}"]
    for (ax, ay), (bx, by) in pairwise(stops):
        middle = (ay + by) / 2
        path.append(f"C{ax:.1f},{middle:.1f} {bx:.1f},{middle:.1f} {bx:.1f},{by:.1f}")
    tip = end_y - half - 1
    head = f"{end_x - 4:.1f},{tip - 7:.1f} {end_x + 4:.1f},{tip - 7:.1f} {end_x:.1f},{tip:.1f}"
    return (
        f'<path d="{" ".join(path)}" fill="none" stroke="{INK}" stroke-opacity="0.45" '
        f'stroke-width="1.4"/><polygon points="{head}" fill="{INK}" fill-opacity="0.55"/>'
    )
