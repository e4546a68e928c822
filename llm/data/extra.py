"""Conversations and pairs from files that params name, beside those the pipeline makes itself."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from llm.config.corpus import DecontaminateConfig
from llm.corpus.contamination import Hit, find_in_texts

logger = logging.getLogger(__name__)


class Said(Protocol):
    """A row with the text of all that is said in it."""

    @property
    def text(self) -> str: ...


R = TypeVar("R", bound=Said)


@dataclass(frozen=True)
class Extra(Generic[R]):
    """The rows to train on, where rows share text with an evaluation, and numbers for metrics."""

    rows: list[R]
    hits: list[Hit]  # of rows named file:number
    counts: dict[str, int]  # read, contaminated, dropped


def without_contaminated(
    files: Mapping[str, Sequence[R]], decontaminated: Path, config: DecontaminateConfig
) -> Extra[R]:
    """The rows of all files, without those that share an n-gram with an evaluation's items.

    Items are what stage decontaminate looked for. With `config.drop` off, rows stay.
    """
    rows = {
        f"{name}:{number}": row
        for name, some in files.items()
        for number, row in enumerate(some, start=1)
    }
    texts = ((name, row.text) for name, row in rows.items())
    hits = find_in_texts(texts, decontaminated, config) if rows else []
    contaminated = {hit.document for hit in hits}
    dropped = contaminated if config.drop else set()
    if contaminated:
        logger.info(
            "%d of %d extra rows share text with an evaluation, %d are dropped",
            len(contaminated),
            len(rows),
            len(dropped),
        )
    counts = {"read": len(rows), "contaminated": len(contaminated), "dropped": len(dropped)}
    return Extra([row for name, row in rows.items() if name not in dropped], hits, counts)
