"""What reading a source gives: documents, and what was skipped and why."""

from dataclasses import dataclass
from typing import Any

from llm.corpus.documents import Row, document_id, dump_meta, valid_unicode


class NotResumableError(Exception):
    """Reading can't go on from a position; it has to begin again."""


@dataclass(frozen=True, slots=True)
class Found:
    """A document."""

    row: Row
    position: int = 0  # where reading goes on after it: a row number, a byte offset


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that could have been a document: where it is, and why it is none."""

    url: str
    reason: str  # one word, counted
    detail: str
    position: int = 0


Item = Found | Skipped


def document(source: str, url: str, mime: str, content: str, meta: dict[str, Any]) -> Row:
    """A gathered row."""
    url, content = valid_unicode(url), valid_unicode(content)
    return {
        "id": document_id(source, url),
        "source": source,
        "url": url,
        "mime": mime,
        "content": content,
        "meta": valid_unicode(dump_meta(meta)),
    }
