"""One form of a text."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.normalize import normalize, repair

MESSY = st.text(
    st.one_of(
        st.characters(), st.sampled_from("\r\n\t \x00\u0301e\ufeff\x85\xa0\u200b\u2028\u00ad")
    )
)


@given(MESSY)
def test_normalizing_twice_changes_nothing_more(text: str):
    assert normalize(normalize(text)) == normalize(text)


@given(MESSY)
def test_what_is_left_is_nfc_without_control_characters(text: str):
    done = normalize(text)
    assert unicodedata.is_normalized("NFC", done)
    assert not [c for c in done if unicodedata.category(c) == "Cc" and c not in "\n\t"]
    assert all(line == line.rstrip() for line in done.split("\n"))


def test_line_ends_space_and_composition_by_hand():
    assert normalize("\ufeffa \t\r\n\r\n  e\u0301\x00x\rb\n ") == "a\n\n  éx\nb"


@given(MESSY)
def test_there_is_one_kind_of_space_and_nothing_invisible(text: str):
    done = normalize(text)
    assert not [c for c in done if unicodedata.category(c) in ("Zs", "Zl", "Zp") and c != " "]
    assert not set(done) & set("\u200b\u2060\u00ad\ufeff")


def test_mojibake_is_undone_and_meant_text_left_alone():
    for meant in ("Größe überall", "naïve café, 漢字, 🙂"):
        assert repair(meant) == meant
    assert repair("schÃ¶n, aber tÃ¼ckisch") == "schön, aber tückisch"
    assert repair("It\u00e2\u20ac\u2122s") == "It\u2019s"
