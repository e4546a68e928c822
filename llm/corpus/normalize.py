"""One form of a text, so that equal texts are equal strings."""

import re
import unicodedata

import ftfy

LINE_ENDS = re.compile(r"\r\n?|[\u2028\u2029]")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")  # all but tab and line feed
INVISIBLE = re.compile("[\u200b\u2060\u00ad]")  # but not the joiners, which some scripts need
SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
TRAILING = re.compile(r"[^\S\n]+$", re.MULTILINE)


def normalize(text: str) -> str:
    """NFC, `\\n` line ends, no control or invisible characters, one kind of space, none at line ends.

    Doing it twice changes nothing more.
    """
    text = CONTROLS.sub("", LINE_ENDS.sub("\n", text))
    if not text.isascii():
        text = SPACES.sub(" ", INVISIBLE.sub("", unicodedata.normalize("NFC", text)))
        text = unicodedata.normalize("NFC", text)  # what was taken out may have kept two apart
    return TRAILING.sub("", text).strip()


def repair(text: str) -> str:
    """The text without mojibake: `schÃ¶n` is `schön` again. Other text is left alone.

    ftfy repairs what is far more likely to be a decoding error than text that was meant.
    """
    return text if text.isascii() else ftfy.fix_encoding(text)
