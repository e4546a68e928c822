"""How often each document of a weighted source is read: the mixture that a model is trained on.

A source of weight 2.5 is read two and a half times: each of its documents twice, and half
of them, drawn by hash, once more. One of weight 0.1 gives a tenth of its documents.
"""

from collections.abc import Sequence

from llm.config.tokenizer import SourceWeight
from llm.corpus.documents import hash_fraction


class Mix:
    """The weights of sources, 1 where none is given."""

    def __init__(self, weights: Sequence[SourceWeight], seed: int) -> None:
        self._weights = {each.source: each.weight for each in weights}
        self._seed = seed

    def copies(self, document_id: str, source: str) -> int:
        """How often a document is read, which depends on its id, its source's weight and the seed."""
        whole, part = divmod(self._weights.get(source, 1.0), 1)
        return int(whole) + (hash_fraction(f"mix {self._seed} {document_id}") < part)

    @property
    def most_copies(self) -> int:
        """No document is read more often."""
        return max([1, *(-int(-weight // 1) for weight in self._weights.values())])
