"""One form of a text, so that equal texts are equal strings."""

import re
import unicodedata

LINE_ENDS = re.compile(r"\r\n?")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff]")  # all but tab and line feed
TRAILING = re.compile(r"[^\S\n]+$", re.MULTILINE)


def normalize(text: str) -> str:
    """NFC, `\\n` line ends, no control characters, no white space at line ends or around.

    Doing it twice changes nothing more.
    """
    text = CONTROLS.sub("", LINE_ENDS.sub("\n", text))
    return TRAILING.sub("", unicodedata.normalize("NFC", text)).strip()
