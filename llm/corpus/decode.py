"""Bytes to text: what they say they are, checked, or what they look like."""

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
META = re.compile(
    rb"<(?:meta|\?xml)[^>]{0,200}?(?:charset|encoding)\s*=\s*[\"']?([\w-]{2,40})", re.I
)
HEAD_BYTES = 8192  # a declaration further down does not count, as in browsers (1024 there)
MAX_BAD_FRAC = 0.02  # of the characters: more is not text in that encoding


def decode(data: bytes, declared: str | None = None, *, html: bool = False) -> tuple[str, str]:
    """The text and the encoding's name; LookupError when it is text in none.

    In this order: byte order mark; UTF-8 if all of it is valid; what HTTP or the page
    itself declares; what the bytes look like. Only the last two may leave U+FFFD, for a
    few bytes that are wrong.
    """
    for mark, name in BOMS:
        if data.startswith(mark):
            return _checked(data, name), name.removesuffix("-sig")
    if b"\x1b" not in data:  # ISO-2022-JP is ASCII with escapes
        try:
            return _text(data.decode("utf-8")), "utf-8"
        except UnicodeDecodeError:
            pass
    for name in (declared, _declared_within(data) if html else None, detect_encoding(data)):
        codec = map_encoding_to_html5(name, False) if name else None
        if codec is None:
            continue
        try:
            return _checked(data, codec), codec
        except LookupError:
            continue
    raise LookupError("no encoding fits")


def _declared_within(data: bytes) -> str | None:
    found = META.search(data[:HEAD_BYTES])
    return found[1].decode("ascii") if found else None


def _checked(data: bytes, codec: str) -> str:
    text = data.decode(codec, "replace")
    if text.count("\ufffd") > MAX_BAD_FRAC * len(text):
        raise LookupError(f"not {codec}")
    return _text(text)


def _text(text: str) -> str:
    """The text, unless it is binary data that happens to decode."""
    if text.count("\0") > MAX_BAD_FRAC * len(text):
        raise LookupError("binary: it is full of zero bytes")
    return text
