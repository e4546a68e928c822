"""Which documents pretraining read, and when: block by block, as the loop drew them.

Being in the training split is not being read: a run of few tokens ends before it has gone
through the split, a long one reads it more than once. The token stream says where each
document lies in it, the params how many blocks were drawn, and the order is a permutation
that depends on the seed alone (llm/data/order.py). Where the order was drawn by other
code than that of today there is no telling.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm.data import order
from llm.data.order import shuffled
from llm.data.shards import HEADER, read_header
from llm.errors import DataError
from llm.registry.cache import file_md5
from llm.registry.corpus import Corpus
from llm.registry.record import Record
from llm.tokenizer.chat import BOS

DRAWN_BY = ("llm/data/order.py", "llm/data/blocks.py")
PACKED_BY = ("llm/data/packing.py", "llm/data/packed_blocks.py")
ROOT = Path(order.__file__).parents[2]


@dataclass(frozen=True)
class Exposure:
    """How often pretraining read a document."""

    steps: tuple[int, ...]  # the optimizer steps that read any of it, from 1
    n_steps: int  # of the whole run


def exposures(
    corpus: Corpus, record: Record, train_ids: Sequence[str], wanted: Collection[str]
) -> dict[str, Exposure]:
    """Of the wanted documents among those of the training split, which are given in order.

    A document that is read more than once is given as often.
    DataError says why there is no telling.
    """
    packed = record.value("pretrain", "packing") == "best_fit"
    for path in (*DRAWN_BY, *(PACKED_BY if packed else ())):
        if record.code.get(path) != file_md5(ROOT / path):
            raise DataError(f"which of it was read cannot be told: {path} has changed since")
    size, batch, tokens, seed = (
        record.value("model", "block_size"),
        *(record.value("pretrain", key) for key in ("batch_tokens", "max_tokens", "seed")),
    )
    if None in (size, batch, tokens, seed):
        raise DataError("how much was read cannot be told: its params are not known")
    starts, total = _document_starts(corpus)
    if len(starts) != len(train_ids):
        raise DataError(
            f"its token shards hold {len(starts)} documents, its corpus gives {len(train_ids)}"
        )
    bounds = np.append(starts, total)
    window = record.value("pretrain", "packing_window")
    held, n_blocks = _packed(bounds, size, window) if packed else _cut(bounds, size)
    blocks: dict[str, set[int]] = {}
    for n, id_ in enumerate(train_ids):
        if id_ in wanted:
            blocks.setdefault(id_, set()).update(held[n])
    n_steps, per_step = tokens // batch, batch // size
    asked = np.unique([block for each in blocks.values() for block in each])
    steps = _steps_of(asked, n_blocks, n_steps, per_step, seed)
    read = {id_: {step for block in each for step in steps[block]} for id_, each in blocks.items()}
    return {id_: Exposure(tuple(sorted(found)), n_steps) for id_, found in read.items()}


def _cut(bounds: np.ndarray, size: int) -> tuple[list[range], int]:
    """The blocks that hold some of each document, and how many blocks the stream is cut into."""
    ends = (bounds[1:] - 1) // size + 1
    held = [
        range(first, end)
        for first, end in zip((bounds[:-1] // size).tolist(), ends.tolist(), strict=True)
    ]
    return held, (int(bounds[-1]) - 1) // size


def _packed(bounds: np.ndarray, size: int, window: int) -> tuple[list[list[int]], int]:
    """The same of blocks that documents were packed into."""
    from llm.data.packed_blocks import pack_documents  # torch takes its time to import

    packed = pack_documents(bounds, size, window)
    n_blocks = len(packed.rows) - 1
    held: list[list[int]] = [[] for _ in bounds[:-1]]
    owners = np.searchsorted(bounds, packed.starts, side="right") - 1
    blocks = np.repeat(np.arange(n_blocks), np.diff(packed.rows))
    for owner, block in zip(owners.tolist(), blocks.tolist(), strict=True):
        held[owner].append(block)
    return held, n_blocks


def _document_starts(corpus: Corpus) -> tuple[np.ndarray, int]:
    """Where each document of the training stream begins, and the stream's length in tokens."""
    tokenizer = json.loads(corpus.files("tokenizer")["tokenizer.json"].read_bytes())
    bos = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == BOS)
    starts, total = [], 0
    for name, path in sorted(corpus.files("tokenize").items()):
        if name.startswith("train/"):
            header = read_header(path)
            ids = np.memmap(path, header.dtype, "r", HEADER.size, (header.count,))
            starts.append(np.flatnonzero(ids == bos) + total)
            total += header.count
    return np.concatenate(starts), total


def _steps_of(
    blocks: np.ndarray, n_blocks: int, n_steps: int, per_step: int, seed: int
) -> dict[int, list[int]]:
    """The steps that read each of some blocks, as `TrainingBlocks` draws them."""
    steps: dict[int, list[int]] = {int(block): [] for block in blocks}
    n_drawn = n_steps * per_step
    for first in range(0, n_drawn, n_blocks):  # epoch by epoch
        drawn = shuffled(n_blocks, first // n_blocks, seed)[: n_drawn - first]
        for place in np.flatnonzero(np.isin(drawn, blocks)):
            steps[int(drawn[place])].append((first + int(place)) // per_step + 1)
    return steps
