"""Main text of pages."""

import json

import pytest

from llm.config.corpus import ExtractConfig
from llm.corpus.html import EXTRACTORS, extract_html, without_short_ends
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared" / "data" / "web"
CONFIG = ExtractConfig(
    html="hybrid", min_long_line_frac=0.9, repair=True, min_characters=20, language_characters=400
)
SENTENCE = "The lighthouse keeper wrote every evening what the sea had brought him on that day. "
ARTICLE = f"""<html><head><title>T</title><script>var x = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a><li><a href="/news">News</a></ul></nav>
<article><h1>A lighthouse</h1><p>{SENTENCE * 4}</p><h2>Later</h2><p>{SENTENCE * 3}</p></article>
<div class="newsletter">Subscribe to our newsletter</div><footer>© 2024 All rights reserved</footer>
</body></html>"""


@pytest.mark.parametrize("name", ["hybrid", *EXTRACTORS])
def test_an_article_is_kept_and_what_is_around_it_is_not(name: str):
    text, _ = extract_html(ARTICLE, CONFIG.model_copy(update={"html": name}))
    assert text.count(SENTENCE.strip()) == 7
    assert "Later" in text
    for around in ("News", "var x", "rights reserved"):
        assert around not in text


def test_hybrid_takes_plain_articles_from_resiliparse_and_doubtful_pages_from_trafilatura():
    assert extract_html(ARTICLE, CONFIG)[1] == "resiliparse"
    doubtful = "<body>" + "".join(f"<p>{n} is a short line</p>" for n in range(30)) + "</body>"
    assert extract_html(doubtful, CONFIG)[1] == "trafilatura"
    never = CONFIG.model_copy(update={"min_long_line_frac": 0.0})
    assert extract_html(doubtful, never)[1] == "resiliparse"


@pytest.mark.parametrize("page", ["", " ", "<", "<html>", "no page at all", "\0", "<p>" * 3000])
@pytest.mark.parametrize("name", ["hybrid", *EXTRACTORS])
def test_odd_pages_give_some_text_or_none(name: str, page: str):
    text, _ = extract_html(page, CONFIG.model_copy(update={"html": name}))
    assert isinstance(text, str)


def test_short_lines_stay_only_near_lines_of_text():
    text = "Menu\nHome\nAbout us\n\nHeading\nA line of text that is long enough to be one.\nitem\n"
    kept = without_short_ends(text + "another line of text that is long enough.\nShare\nPrint")
    assert kept.split("\n") == [
        "Heading",
        "A line of text that is long enough to be one.",
        "item",
        "another line of text that is long enough.",
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_real_pages_give_their_gold_segments():
    from benchmarks.extraction import read_pages

    pages, kept, segments, wrong = read_pages(SHARED), 0, 0, 0
    for url, gold in json.loads((SHARED / "gold.json").read_text()).items():
        text, _ = extract_html(pages[url], CONFIG)
        kept += sum(segment in text for segment in gold["with"])
        wrong += sum(segment in text for segment in gold["without"])
        segments += len(gold["with"])
    assert len(pages) == 127
    assert kept / segments > 0.95  # measured: 0.962
    assert kept / (kept + wrong) > 0.89  # measured: 0.907
