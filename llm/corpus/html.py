"""The main text of a web page: without navigation, advertisements, comments and footers.

`trafilatura` is the more precise, `resiliparse` more than ten times as fast; `hybrid` asks
Resiliparse first and takes what it gives where a page is plainly an article: where nearly
all of its text stands in long lines. benchmarks/extraction.py measures all three.
"""

import logging
import re
from collections.abc import Callable

from resiliparse.extract.html2text import extract_plain_text

from llm.config.corpus import ExtractConfig

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it says of every odd page that it is

LONG_LINE = 80  # characters: a paragraph's line rather than a caption's or a link's
TEXT_LINE = 40  # kept wherever it stands
NEAR = 2  # lines: shorter ones are kept between, or right in front of, lines of text
BLANK_LINES = re.compile(r"\n{3,}")
# What Resiliparse's own rules leave in; chosen on the benchmark's pages
SKIPPED_ELEMENTS = [
    "nav", "footer", "aside", "form", "button", "select", "iframe", "noscript", "dialog",
    "template", "figure figcaption",
    *(f'[role="{role}"]' for role in (
        "navigation", "dialog", "search", "banner", "contentinfo", "complementary",
    )),
    *(f'[class*="{part}" i]' for part in ("footer", "newsletter", "byline", "related", "rating")),
    '[id*="footer" i]', '[class*="header" i] li',
]  # fmt: skip


def extract_html(html: str, config: ExtractConfig) -> tuple[str, str]:
    """A page's main text, empty when it has none, and the extractor that gave it."""
    if config.html != "hybrid":
        return EXTRACTORS[config.html](html), config.html
    text = article(html)
    if text and long_line_frac(text) >= config.min_long_line_frac:
        return without_short_ends(text), "resiliparse"
    return by_trafilatura(html), "trafilatura"


def by_trafilatura(html: str) -> str:
    """Trafilatura's text, with tables and without comments."""
    import trafilatura  # a second of imports that a corpus without web pages does without

    return trafilatura.extract(html, include_comments=False) or ""


def by_resiliparse(html: str) -> str:
    """Resiliparse's main content, as it is."""
    return extract_plain_text(html, main_content=True, alt_texts=False, comments=False)


def article(html: str) -> str:
    """Resiliparse's main content without the elements that it takes for content too often."""
    return extract_plain_text(
        html, main_content=True, alt_texts=False, comments=False, skip_elements=SKIPPED_ELEMENTS
    )


def long_line_frac(text: str) -> float:
    """The share of the characters that stand in long lines."""
    lengths = [len(line.strip()) for line in text.split("\n")]
    return sum(length for length in lengths if length >= LONG_LINE) / max(1, sum(lengths))


def without_short_ends(text: str) -> str:
    """The lines of text, and the short ones among them: headings, items, but not what is around."""
    lines = text.split("\n")
    is_text = [len(line.strip()) >= TEXT_LINE for line in lines]
    following, distance = [0] * len(lines), len(lines)
    for number in range(len(lines) - 1, -1, -1):
        distance = 0 if is_text[number] else distance + 1
        following[number] = distance
    kept = [
        line
        for line, after in zip(lines, following, strict=True)
        if after <= NEAR or not line.strip()
    ]
    return BLANK_LINES.sub("\n\n", "\n".join(kept)).strip()


EXTRACTORS: dict[str, Callable[[str], str]] = {
    "trafilatura": by_trafilatura,
    "resiliparse": by_resiliparse,
}
