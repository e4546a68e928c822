"""Bytes to text."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.decode import decode

RUSSIAN = "Съешь же ещё этих мягких французских булок, да выпей чаю. " * 3


@given(st.text())
def test_valid_utf_8_is_read_as_it_is(text: str):
    data = text.encode("utf-8", "ignore")
    if text.count("\0") or "\x1b" in text or data.startswith((b"\xff", b"\xef\xbb\xbf")):
        return
    assert decode(data, "latin-1") == (data.decode(), "utf-8")


@given(st.binary())
def test_any_bytes_are_text_or_refused(data: bytes):
    try:
        text, encoding = decode(data, html=True)
    except LookupError:
        return
    codecs.lookup(encoding)
    text.encode("utf-8")


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-16", "utf-8"])
def test_a_page_is_read_as_it_declares(encoding: str):
    page = f'<html><head><meta charset="{encoding}"></head><body>{RUSSIAN}'
    assert decode(page.encode(encoding), html=True)[0] == page
    assert decode(RUSSIAN.encode(encoding), encoding)[0] == RUSSIAN


def test_a_wrong_declaration_loses_against_what_the_bytes_are():
    assert decode(RUSSIAN.encode(), "cp1252") == (RUSSIAN, "utf-8")
    japanese = "日本語のテキストです。" * 5
    assert decode(japanese.encode("shift_jis"), "utf-8")[0] == japanese
    assert decode(japanese.encode("iso2022_jp"), "iso-2022-jp")[0] == japanese


def test_binary_data_is_no_text():
    for data in (b"\0" * 1000, b"\x7fELF" + bytes(range(256)) * 20):
        with pytest.raises(LookupError):
            decode(data)
