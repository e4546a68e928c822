"""The main text of a page by judging its blocks, one by one, with a linear model.

The features are Kohlschütter, Fankhauser and Nejdl's ("Boilerplate Detection using Shallow
Text Features", WSDM 2010) — length, link density, the neighbours' — with the block's tag,
what the names of the elements around it say, and where it stands from the box that holds
most of the prose. Nothing in them is of one language. benchmarks/extraction_weights.py
learns the weights from pages with gold segments.
"""

import re
from math import log1p
from operator import mul

from llm.corpus.blocks import LONG, Page, read_page

VERY_LONG = 250  # characters
MAIN_FRAC = 0.75  # the main box is the innermost one with this share of the prose around it
COMMAS = re.compile("[,\u060c\u3001\uff0c]")  # and those of Arabic, Chinese, Japanese
SENTENCE_END = re.compile(  # of many scripts, and closing quotation marks behind it
    "[.!?\u2026\u3002\uff01\uff1f:;\u0964\u061f\u06d4][\"'\u201d\u2019\xbb)\\]]*\\Z"
)
HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
ITEMS = frozenset(("li", "dd", "dt"))
ROWS = frozenset(("td", "th", "tr", "table"))
QUOTES = frozenset(("pre", "blockquote"))

# Of a block, in natural log odds that it is main text; what is not a share is 0 or 1
WEIGHTS = {
    "always": -1.8,
    "long": 0.7,
    "very_long": 0.6,
    "commas": 0.5,  # log(1 + how many)
    "sentence_end": 0.4,
    "copyright_sign": -2.1,
    "link_frac": -1.7,  # of the block's characters
    "link_frac_before": -0.8,  # of the block before it
    "link_frac_after": -0.7,
    "paragraph": 1.0,
    "heading": 0.7,
    "item": 2.0,
    "row": 2.6,
    "quote": 1.9,
    "named_around": -1.3,  # in a box that is navigation, a sidebar, an advertisement, … by name
    "named_about": -1.9,  # author, date
    "named_caption": -2.3,
    "named_content": 0.6,
    "in_main": 1.5,  # the box that holds most of the prose
    "before_main": 1.0,  # in front of its first prose, where title and lead stand
    "after_main": -1.1,  # behind its last prose
}  # fmt: skip


def main_text(html: str) -> str:
    """The main text, empty when the page has none.

    Blocks are set apart by empty lines, the items of a list and the rows of a table are not.
    """
    page = read_page(html)
    parts: list[str] = []
    lines_before = False
    for row, text, box in zip(features(page), page.texts, page.boxes, strict=True):
        if sum(map(mul, row, WEIGHTS.values())) <= 0:
            continue
        tag = page.tags[box]
        lines = tag in ITEMS or tag in ROWS
        if parts:
            parts.append("\n" if lines and lines_before else "\n\n")
        parts.append(f"- {text}" if tag in ITEMS else text)
        lines_before = lines
    return "".join(parts)


def features(page: Page) -> list[tuple[float, ...]]:
    """A block's values in the order of WEIGHTS, for every block."""
    prose = [
        0 if "around" in page.names[box] else count
        for count, box in zip(page.prose(), page.boxes, strict=True)
    ]
    in_main = _in_main(page, page.in_boxes(prose))
    main_prose = [
        number
        for number, (count, box) in enumerate(zip(prose, page.boxes, strict=True))
        if count and in_main[box]
    ]
    first, last = (main_prose[0], main_prose[-1]) if main_prose else (len(prose), -1)
    link_fracs = [linked / len(text) for linked, text in zip(page.linked, page.texts, strict=True)]
    around = [0.0, *link_fracs, 0.0]
    rows = []
    for number, (text, box) in enumerate(zip(page.texts, page.boxes, strict=True)):
        length, tag, names = len(text), page.tags[box], page.names[box]
        rows.append((
            1,
            length >= LONG,
            length >= VERY_LONG,
            log1p(len(COMMAS.findall(text))),
            SENTENCE_END.search(text, length - 4 if length > 4 else 0) is not None,
            "©" in text,
            link_fracs[number],
            around[number],
            around[number + 2],
            tag == "p",
            tag in HEADINGS,
            tag in ITEMS,
            tag in ROWS,
            tag in QUOTES,
            "around" in names,
            "about" in names,
            "caption" in names,
            "content" in names,
            in_main[box],
            number < first,
            number > last,
        ))  # fmt: skip
    return rows


def _in_main(page: Page, prose: list[int]) -> list[bool]:
    """Whether a box is the main one or within it."""
    main = 0
    for box in range(1, len(prose)):
        if page.parents[box] == main and prose[box] and prose[box] >= MAIN_FRAC * prose[main]:
            main = box
    within: list[bool] = []
    for box, parent in enumerate(page.parents):
        within.append(box == main or (parent >= 0 and within[parent]))
    return within
