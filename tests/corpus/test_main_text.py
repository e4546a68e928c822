"""The main text: what the features are, what they weigh, and how blocks are joined."""

from math import log

import pytest

from llm.corpus.blocks import read_page
from llm.corpus.main_text import WEIGHTS, features, main_text

ENGLISH = "The keeper wrote, every evening, what the sea had brought him on that long and grey day."
PAGE = f"""<body><div class=sidebar><ul><li><a href=1>One</a><li><a href=2>Two</a></ul></div>
<div class=text><h1>A lighthouse</h1><p>{ENGLISH}<h2>Later</h2><p>{ENGLISH} <a href=3>{ENGLISH[:40]}</a>
<ul><li>A lamp of brass and glass, and oil for it.<li>A book, which is empty.</ul>
<table><tr><td>Height<td>40 m<tr><td>Built<td>1871</table></div>
<p>© 2024</body>"""


def test_features_of_a_page_worked_by_hand():
    page = read_page(PAGE)
    rows = [dict(zip(WEIGHTS, row, strict=True)) for row in features(page)]
    by_text = dict(zip(page.texts, rows, strict=True))

    def true(text: str) -> set[str]:
        return {name for name, value in by_text[text].items() if value is True}

    assert true("A lighthouse") == {"heading", "in_main", "before_main"}
    assert by_text["A lighthouse"]["link_frac_before"] == 1
    assert true("One") == {"item", "named_around", "before_main"}
    assert by_text["One"]["link_frac"] == 1
    assert by_text["One"]["link_frac_after"] == 1
    assert true(ENGLISH) == {"long", "sentence_end", "paragraph", "in_main"}
    assert by_text[ENGLISH]["commas"] == pytest.approx(log(3))
    assert by_text["Later"]["link_frac_after"] == pytest.approx(40 / (len(ENGLISH) + 41))
    assert true("A book, which is empty.") == {"item", "sentence_end", "in_main", "after_main"}
    assert true("Height | 40 m") == {"row", "in_main", "after_main"}
    assert true("© 2024") == {"copyright_sign", "paragraph", "after_main"}


def test_title_prose_lists_and_tables_are_kept_with_their_shape():
    assert main_text(PAGE).split("\n") == [
        "A lighthouse",
        "",
        ENGLISH,
        "",
        "Later",
        "",
        f"{ENGLISH} {ENGLISH[:40]}",
        "",
        "- A lamp of brass and glass, and oil for it.",
        "- A book, which is empty.",
        "Height | 40 m",
        "Built | 1871",
    ]


@pytest.mark.parametrize(
    "sentence",
    [
        ENGLISH,
        "Der Wärter schrieb jeden Abend auf, was ihm das Meer an diesem Tag gebracht hatte. ",
        "كتب حارس المنارة كل مساء، ما جلبه له البحر في ذلك اليوم الطويل، ثم أطفأ المصباح ونام. ",
        "灯台守は毎晩、その日に海が運んできたものを帳面に書きとめ、それから灯りをともして、朝まで眠らずに海を見ていた。"
        * 2,
        "Смотритель маяка каждый вечер записывал, что принесло ему море в тот долгий день. ",
    ],
)
def test_prose_is_kept_and_menus_are_not_in_any_language(sentence: str):
    menu = "".join(f"<li><a href={n}>{sentence[n : n + 12]}</a>" for n in range(9))
    text = main_text(f"<div><ul>{menu}</ul><div><p>{sentence}<p>{sentence * 3}</div></div>")
    assert text == f"{sentence.strip()}\n\n{(sentence * 3).strip()}"


def test_links_to_other_pages_and_authors_are_dropped_within_the_article():
    links = "<p><a href=1>Ten more lighthouses that you should see</a>"
    author = "<div class=author-box><p>Jo Doe lives by the sea.</div>"
    text = main_text(f"<article><p>{ENGLISH}{links}<p>{ENGLISH * 4}{author}</article>")
    assert text == f"{ENGLISH}\n\n{ENGLISH * 4}"


def test_nothing_comes_of_nothing():
    assert main_text("") == main_text("<nav><a href=1>Home</a></nav>") == ""
