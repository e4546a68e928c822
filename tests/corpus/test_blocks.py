"""A page's blocks: where one ends, how its text reads, what is left out, in which time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.blocks import read_page

PROSE = "The lighthouse keeper wrote every evening what the sea had brought him on that day. "


@pytest.mark.parametrize(
    ("html", "texts"),
    [
        ("<p>one\n  <b>two</b>&nbsp;three<p>four", ["one two three", "four"]),
        ("<div>before<p>within</p>behind</div>", ["before", "within", "behind"]),
        ("<p>line<br>line<br><br><br><br>line", ["line\nline\n\nline"]),
        ("<pre>\n  if x:\n    y<br>  z\n</pre>", ["  if x:\n    y\n  z"]),
        ("<table><tr><th>a<td><b>b</b><td><tr><td>c</table>", ["a | b", "c"]),
        ("<table><tr><td><p>a</p><p>b</p><td>c</table>", ["a", "b", "c"]),
        ("<ul><li>a<li>b <a href='#'>c</a></ul>", ["a", "b c"]),
        ("<p>a<script>b</script>c<style>d</style><nav>e</nav><!-- f -->", ["ac"]),
        ("<ruby>漢<rp>(</rp><rt>kan</rt></ruby>字", ["漢字"]),
        ("<body></body></html><p>behind the end", ["behind the end"]),
        ("<?xml version='1.0' encoding='latin-1'?><p>é", ["é"]),
    ],
)
def test_blocks_read_as_a_browser_shows_them(html: str, texts: list[str]):
    assert read_page(html).texts == texts


def test_characters_in_links_are_counted():
    page = read_page("<p>12<a href='#'>345<b>67</b></a>8<p>9<a>0</a>")
    assert page.linked == [5, 1]


def test_names_hold_for_what_is_within():
    page = read_page("<div class='Main-menu'><ul><li>a</ul></div><div id='articleBody'><p>b</div>")
    assert [set(page.names[box]) for box in page.boxes] == [{"around"}, {"content"}]


def test_comments_newsletters_and_related_links_are_left_out():
    page = read_page(
        f"<main><p>{PROSE * 9}</main><div id=comments><p>{PROSE}</div>"
        f"<aside>{PROSE}</aside><p class='newsletter-form'>{PROSE}<ul class=relatedPosts><li>a"
    )
    assert page.texts == [(PROSE * 9).strip()]


def test_what_holds_most_of_the_prose_is_kept_whatever_its_name():
    page = read_page(f"<form class=comments><p>{PROSE * 3}</form><p>{PROSE}")
    assert page.texts == [(PROSE * 3).strip(), PROSE.strip()]
    assert [set(page.names[box]) for box in page.boxes] == [set(), set()]


SOUP = ["<p>", "<div>", "</div>", "<a>", "</a>", "<td>", "<table>", "<pre>", "<br>", "x", " ", "<"]


@given(st.lists(st.sampled_from(SOUP)))
def test_any_soup_gives_blocks_with_at_most_their_length_in_links(soup: list[str]):
    page = read_page("".join(soup))
    for text, linked, box in zip(page.texts, page.linked, page.boxes, strict=True):
        assert text
        assert 0 <= linked <= len(text)
        assert 0 <= box < len(page.tags) == len(page.parents) == len(page.names)


@pytest.mark.parametrize(
    "part",
    ["<div>", "<div><p>some words, ", "<span>a ", f"<p>{PROSE}", "a<br>"],
)
def test_time_grows_with_length_alone(part: str):
    times = []
    for size in (200_000, 2_000_000):
        html = part * (size // len(part))
        started = time.process_time()
        read_page(html)
        times.append(time.process_time() - started)
    assert times[1] < 30 * max(times[0], 0.02)  # quadratic would be 100
