"""Which items of a benchmark share no text with what the models were trained on (GPT-3, appendix C).

Stage decontaminate has looked for held-out documents, of which our tasks' items are made,
and for the other tasks' items in all training documents. An item is clean when no document
that was trained on shares an n-gram with it or the document that it is made of; what was
not looked for is not judged.
"""

from pathlib import Path

import pyarrow.parquet as pq

from llm.corpus.contamination import ITEMS
from llm.corpus.documents import shard_paths


class CleanDocuments:
    """Held-out documents and items whose text was not trained on; `in` takes an id or a url."""

    def __init__(self, decontaminate: Path) -> None:
        hits = pq.read_table(decontaminate / "contamination.parquet").to_pylist()
        trained = _among(decontaminate / "kept", {hit["document_id"] for hit in hits})
        dirty = {hit["item_id"] for hit in hits if hit["document_id"] in trained}
        self._names: set[str] = set()
        for path in shard_paths(decontaminate / "heldout"):
            for row in pq.read_table(path, columns=["id", "url"]).to_pylist():
                if row["id"] not in dirty:
                    self._names |= {row["id"], row["url"]}
        items = pq.read_table(decontaminate / ITEMS, columns=["id"])["id"].to_pylist()
        self._names |= set(items) - dirty

    def __contains__(self, name: str) -> bool:
        return name in self._names


def _among(folder: Path, wanted: set[str]) -> set[str]:
    """The wanted documents that a folder's shards hold."""
    return {
        id_
        for path in shard_paths(folder)
        for id_ in pq.read_table(path, columns=["id"])["id"].to_pylist()
        if id_ in wanted
    }
