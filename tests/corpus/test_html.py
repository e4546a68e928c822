"""Which extractor a page's text is by, and what all of them keep and leave out."""

import json

import pytest

from llm.config.corpus import ExtractConfig
from llm.corpus import html
from llm.corpus.html import EXTRACTORS, extract_html
from tests.conftest import ROOT

SHARED = ROOT.parent / "shared" / "data" / "web"
CONFIG = ExtractConfig(
    html="blocks", fallback_characters=150, repair=True, min_characters=20, language_characters=400
)
SENTENCE = "The lighthouse keeper wrote every evening what the sea had brought him on that day. "
ARTICLE = f"""<html><head><title>T</title><script>var x = 1;</script></head><body>
<nav><ul><li><a href="/">Home</a><li><a href="/news">News</a></ul></nav>
<article><h1>A lighthouse</h1><p>{SENTENCE * 4}</p><h2>Later</h2><p>{SENTENCE * 3}</p></article>
<div class="newsletter">Subscribe to our newsletter</div><footer>© 2024 All rights reserved</footer>
</body></html>"""


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_article_is_kept_and_what_is_around_it_is_not(name: str):
    text, extractor = extract_html(ARTICLE, CONFIG.model_copy(update={"html": name}))
    assert extractor == name
    assert text.count(SENTENCE.strip()) == 7
    assert "Later" in text
    for outside in ("News", "var x", "rights reserved"):
        assert outside not in text


def test_a_page_with_next_to_no_text_is_trafilaturas_where_that_finds_more(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(html, "by_trafilatura", lambda page: "what Trafilatura finds")
    page = "<body><p>Short.</p></body>"
    assert extract_html(page, CONFIG) == ("what Trafilatura finds", "trafilatura")
    never = CONFIG.model_copy(update={"fallback_characters": 0})
    assert extract_html(page, never)[1] == "blocks"
    assert extract_html(ARTICLE, CONFIG)[1] == "blocks"
    monkeypatch.setattr(html, "by_trafilatura", lambda page: "")
    assert extract_html(page, CONFIG)[1] == "blocks"


@pytest.mark.parametrize(
    "page",
    ["", " ", "<", "<html>", "no page at all", "\0", "<p>" * 3000, "<!-- -->", "<?xml?>"],
)
@pytest.mark.parametrize("name", EXTRACTORS)
def test_odd_pages_give_some_text_or_none(name: str, page: str):
    text, _ = extract_html(page, CONFIG.model_copy(update={"html": name}))
    assert isinstance(text, str)


def test_a_tag_with_more_attributes_than_parsers_can_take_is_refused_and_long_values_are_not():
    text = "<p>" + "What stands in this paragraph is the text of the page, and long enough. " * 5
    with pytest.raises(ValueError, match="more than 10,000 attributes"):
        extract_html(f"<div {' '.join(f'a{n}=1' for n in range(20_000))}>{text}", CONFIG)
    found, _ = extract_html(f"<div data-state='{'one more word ' * 20_000}'>{text}", CONFIG)
    assert found.startswith("What stands")


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
    assert kept / segments > 0.94  # measured: 0.957
    assert kept / (kept + wrong) > 0.93  # measured: 0.949
