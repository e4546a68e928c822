"""A page's text in blocks, each with the elements that it stands in.

A block is what a reader sees as a paragraph, heading, list item or table row: a run of text
without a block-level element's boundary in it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from llm.corpus.element_names import CONTENT, names_of

NO_TEXT = """
script style template svg math iframe object embed canvas video audio select textarea
button applet map head dialog datalist rt rp
"""
INLINE = """
a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q ruby s
samp small span strike strong sub sup time tt u var wbr picture source nobr tbody thead tfoot
input meta link param
"""
BOX, WITHOUT_TEXT, WITHIN_TEXT, BREAK, CELL = range(5)
KINDS_OF_TAG = (
    dict.fromkeys(NO_TEXT.split(), WITHOUT_TEXT)
    | dict.fromkeys(INLINE.split(), WITHIN_TEXT)
    | {"br": BREAK, "td": CELL, "th": CELL}
)
BREAK_MARK, CELL_MARK = "\0", "\1"  # in a page they are no text, and read as what they mark
BLANK_LINES = re.compile(r"\n{3,}")

LONG = 80  # characters
PROSE_LINK_FRAC = 0.4  # prose is a long block with fewer of its characters in links
MOST_FRAC = 0.5  # a box with this share of the page's prose is not boilerplate by its name

PARSER = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)


@dataclass(slots=True)
class Page:
    """Lists in the document's order: a value per box (block-level element), one per block."""

    tags: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)  # -1 for the first box, the page
    names: list[frozenset[str]] = field(default_factory=list)  # its own and those around it
    texts: list[str] = field(default_factory=list)
    linked: list[int] = field(default_factory=list)  # characters that stand in links
    boxes: list[int] = field(default_factory=list)  # the block's innermost box

    def prose(self) -> list[int]:
        """A block's characters outside links if it is prose, else 0."""
        return [
            len(text) - linked if len(text) >= LONG and linked < PROSE_LINK_FRAC * len(text) else 0
            for text, linked in zip(self.texts, self.linked, strict=True)
        ]

    def in_boxes(self, counts: list[int]) -> list[int]:
        """Per box, the sum over the blocks in it."""
        sums = [0] * len(self.tags)
        for count, box in zip(counts, self.boxes, strict=True):
            sums[box] += count
        for box in range(len(sums) - 1, 0, -1):
            sums[self.parents[box]] += sums[box]
        return sums


def read_page(html: str) -> Page:
    """The page's blocks, in time that grows with its length alone.

    White space is as a browser shows it, `pre` as it is; cells of a row are set apart by
    bars. Scripts are left out, and what its names say is apart (llm/corpus/element_names.py).
    The parser loses what is nested more than 2,000 elements deep.
    """
    page = Page(tags=["page"], parents=[-1], names=[frozenset()])
    tags, parents, names = page.tags, page.parents, page.names
    box, links, verbatim, linked = 0, 0, 0, 0
    parts: list[str] = []

    def end_block() -> None:
        nonlocal linked
        text = _verbatim(parts) if verbatim else _flowing(parts)
        if text:
            page.texts.append(text)
            page.linked.append(min(linked, len(text)))
            page.boxes.append(box)
        parts.clear()
        linked = 0

    for root in _roots(html):
        walk = etree.iterwalk(root, events=("start", "end"))
        for event, element in walk:
            tag = element.tag
            kind = KINDS_OF_TAG.get(tag, BOX)
            if event == "start":
                if kind == WITHOUT_TEXT:
                    walk.skip_subtree()
                    continue
                if kind == WITHIN_TEXT:
                    links += tag == "a"
                elif kind == BREAK:
                    parts.append(BREAK_MARK)
                else:
                    if kind == CELL:
                        parts.append(CELL_MARK)
                    elif parts:
                        end_block()
                    verbatim += tag == "pre"
                    get = element.get
                    tags.append(tag)
                    parents.append(box)
                    names.append(
                        names_of(tag, get("class"), get("id"), get("role"), get("itemprop"))
                    )
                    box = len(tags) - 1
                text = element.text
            else:
                if kind == WITHIN_TEXT:
                    links -= tag == "a"
                elif kind in (BOX, CELL):
                    if kind == BOX and parts:
                        end_block()
                    verbatim -= tag == "pre"
                    box = parents[box]
                text = element.tail
            if text and (parts or verbatim or not text.isspace()):
                parts.append(text)
                if links:
                    linked += len(text.strip())
    return _without_apart(page)


def _roots(html: str) -> Iterator[Any]:
    """The page's elements of the top level: more than one if it goes on behind `</html>`."""
    root = etree.fromstring(html.encode("utf-8", "replace"), PARSER) if html.strip() else None
    if root is not None:
        yield root
        yield from root.itersiblings()


def _verbatim(parts: list[str]) -> str:
    text = "".join(parts).replace(BREAK_MARK, "\n").replace(CELL_MARK, " ")
    return text.strip("\n").rstrip()


def _flowing(parts: list[str]) -> str:
    text = "".join(parts)
    if CELL_MARK in text:
        cells = [" ".join(cell.split()) for cell in text.replace(BREAK_MARK, " ").split(CELL_MARK)]
        return " | ".join(cell for cell in cells if cell)
    if BREAK_MARK in text:
        lines = [" ".join(line.split()) for line in text.split(BREAK_MARK)]
        return BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()
    return " ".join(text.split())


def _without_apart(page: Page) -> Page:
    """The page with names that hold for what is within, and without the blocks that are apart."""
    prose = page.in_boxes(page.prose())
    most = MOST_FRAC * max(prose, default=0)
    names: list[frozenset[str]] = []
    for own, parent, count in zip(page.names, page.parents, prose, strict=True):
        if own and count and count >= most:
            own &= CONTENT
        inherited = names[parent] if names else own
        names.append(inherited | own if own else inherited)
    kept = [number for number, box in enumerate(page.boxes) if "apart" not in names[box]]
    return Page(
        page.tags,
        page.parents,
        names,
        [page.texts[number] for number in kept],
        [page.linked[number] for number in kept],
        [page.boxes[number] for number in kept],
    )
