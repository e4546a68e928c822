"""The main text of a web page: without navigation, advertisements, comments and footers.

`blocks` is ours (llm/corpus/main_text.py), `trafilatura` and `resiliparse` are libraries.
benchmarks/extraction.py measures all three.
"""

import logging
import re
from collections.abc import Callable

from resiliparse.extract.html2text import extract_plain_text

from llm.config.corpus import ExtractConfig
from llm.corpus.main_text import main_text

logging.getLogger("trafilatura").setLevel(logging.CRITICAL)  # it says of every odd page that it is

# Parsers compare each attribute of a tag with all others: 200,000 of them take minutes.
MOST_ATTRIBUTES = 10_000
LONG_TAG = re.compile(f"<[a-zA-Z][^<>]{{{2 * MOST_ATTRIBUTES},}}")
QUOTED = re.compile("\"[^\"]*\"|'[^']*'")


def extract_html(html: str, config: ExtractConfig) -> tuple[str, str]:
    """A page's main text, empty when it has none, and the extractor that gave it.

    ValueError for a tag with more attributes than can be parsed in reasonable time.
    """
    for tag in LONG_TAG.findall(html):
        if len(QUOTED.sub("", tag).split()) > MOST_ATTRIBUTES:
            raise ValueError(f"a tag has more than {MOST_ATTRIBUTES:,} attributes")
    text = EXTRACTORS[config.html](html)
    if config.html == "blocks" and len(text) < config.fallback_characters:
        longer = by_trafilatura(html)
        if len(longer) > len(text):
            return longer, "trafilatura"
    return text, config.html


def by_trafilatura(html: str) -> str:
    """Trafilatura's text, with tables and without comments."""
    import trafilatura  # a second of imports that a corpus without web pages does without

    return trafilatura.extract(html, include_comments=False) or ""


def by_resiliparse(html: str) -> str:
    """Resiliparse's main content, as it is."""
    return extract_plain_text(html, main_content=True, alt_texts=False, comments=False)


EXTRACTORS: dict[str, Callable[[str], str]] = {
    "blocks": main_text,
    "trafilatura": by_trafilatura,
    "resiliparse": by_resiliparse,
}
