"""Items of our lm-eval tasks, made from held-out data; the YAML files in evals/tasks name these.

Each builder gets the benchmark's values as keywords (lm-eval's task metadata) and returns
one split, `test`. An item's `document` is the id or url of the held-out document that it is
made of. Items and distractors are drawn by hash, so that adding a document changes few
items, and are the same for every model.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset

from evals.order import order
from llm.data.conversations import is_correct, read_conversations

OPTIONS = 4
HEADING_CHARACTERS = (8, 160)
SUMMARY_CHARACTERS = (20, 160)


@dataclass(frozen=True)
class Entry:
    """A documented object: the heading of its document, and its one-line summary."""

    id: str
    kind: str
    heading: str
    summary: str


def summary_choice(*, heldout: str, limit: int, seed: int, **metadata: Any) -> dict[str, Dataset]:
    """A heading, and which of four one-line summaries belongs to it."""
    rows = [
        {
            "id": entry.id,
            "document": entry.id,
            "question": f"{entry.heading}\n\n",
            "choices": [option.summary for option in options],
            "answer": options.index(entry),
        }
        for entry, options in _choices(read_entries(Path(heldout)), limit, seed)
    ]
    return {"test": Dataset.from_list(rows)}


def name_choice(*, heldout: str, limit: int, seed: int, **metadata: Any) -> dict[str, Dataset]:
    """A one-line summary, and which of four headings it belongs to.

    Documents begin with the heading, so each heading is a context and the summary is what
    is scored after it: P(summary | heading), as Winogrande is scored.
    """
    rows = [
        {
            "id": entry.id,
            "document": entry.id,
            "summary": entry.summary,
            "choices": [f"{option.heading}\n\n" for option in options],
            "answer": options.index(entry),
        }
        for entry, options in _choices(read_entries(Path(heldout)), limit, seed)
    ]
    return {"test": Dataset.from_list(rows)}


def documents(*, heldout: str, limit: int, seed: int, **metadata: Any) -> dict[str, Dataset]:
    """Whole held-out documents, for bits per byte."""
    table = pq.read_table(heldout, columns=["id", "text"])
    rows = [row | {"document": row["id"]} for row in table.to_pylist() if row["text"]]
    return {"test": Dataset.from_list(_draw(rows, limit, seed))}


def instructions(
    *, conversations: str, kind: str, limit: int, seed: int, **metadata: Any
) -> dict[str, Dataset]:
    """Held-out conversations of one kind: the user's question, and the exact answer."""
    rows = [
        {
            "id": item.id,
            "document": item.source,
            "kind": kind,
            "question": item.prompt[-1]["content"],
            "answer": item.reference,
        }
        for item in read_conversations(Path(conversations))
        if item.kind == kind
    ]
    return {"test": Dataset.from_list(_draw(rows, limit, seed))}


def exact_match(item: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether the generated answer is the reference, by the rule that the kind is checked with."""
    return {"exact_match": float(is_correct(item["kind"], item["answer"], results[0]))}


def read_entries(heldout: Path) -> list[Entry]:
    """The documented objects among held-out documents, one per summary, in order of the id."""
    table = pq.read_table(heldout, columns=["id", "text", "meta"])
    entries: dict[str, Entry] = {}
    for row in sorted(table.to_pylist(), key=lambda row: row["id"]):
        meta = json.loads(row["meta"])
        if "doc" not in meta:
            continue
        heading, summary = (
            row["text"].partition("\n")[0],
            meta["doc"].partition("\n")[0],
        )
        if _within(heading, HEADING_CHARACTERS) and _within(summary, SUMMARY_CHARACTERS):
            entries.setdefault(summary, Entry(row["id"], meta["kind"], heading, summary))
    return list(entries.values())


def _choices(entries: Iterable[Entry], limit: int, seed: int) -> list[tuple[Entry, list[Entry]]]:
    """Entries with their options in shuffled order; distractors are entries of the same kind."""
    by_kind: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_kind[entry.kind].append(entry)
    usable = [entry for group in by_kind.values() if len(group) >= OPTIONS for entry in group]
    chosen = sorted(usable, key=lambda entry: order(seed, entry.id))[:limit]
    return [(entry, _options(entry, by_kind[entry.kind], seed)) for entry in chosen]


def _options(entry: Entry, group: list[Entry], seed: int) -> list[Entry]:
    others = [other for other in group if other.heading != entry.heading]
    others.sort(key=lambda other: order(seed, entry.id, other.id))
    options = [entry, *others[: OPTIONS - 1]]
    return sorted(options, key=lambda option: order(seed, "place", entry.id, option.id))


def _draw(rows: list[dict[str, Any]], limit: int, seed: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: order(seed, row["id"]))[:limit]


def _within(text: str, characters: tuple[int, int]) -> bool:
    return characters[0] <= len(text) <= characters[1]
