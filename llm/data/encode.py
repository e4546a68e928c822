"""A shard of documents as ids, split into train and val, each as often as its source's weight says."""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from llm.config.tokenizer import TokenizeConfig
from llm.corpus.columns import empty_table, number_column, text_column
from llm.corpus.documents import Row, hash_fraction, read_shard
from llm.data.byte_model import Triples, count_triples
from llm.data.mix import Mix
from llm.data.shards import id_dtype
from llm.tokenizer.fast import Encoder
from llm.tokenizer.load import Tokenizer

SPLITS = ("train", "val")
TEXTS = 256  # whose ids are Python objects at a time
DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("split", pa.string()),
        ("copies", pa.int64()),
        ("tokens", pa.int64()),  # of all copies
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Work:
    """One copy of one shard to encode."""

    path: Path
    tokenizer: Path  # its folder
    tokenizer_hash: str
    config: TokenizeConfig
    copy: int  # val goes with the first, 0


@dataclass(frozen=True)
class Encoded:
    """The ids of documents, each after the separator."""

    ids: np.ndarray
    lengths: np.ndarray  # of the documents, in ids
    triples: Triples

    def ids_ended(self) -> np.ndarray:
        """The ids of the same documents, each before the separator."""
        return np.append(self.ids[1:], self.ids[:1])


@dataclass(frozen=True)
class Part:
    """What one copy of one shard gives."""

    splits: dict[str, Encoded]
    documents: pa.Table  # DOCUMENTS, in the splits' order; those of no copy last; of copy 0 only


@dataclass
class _Drawn:
    """Documents of a split, and how often each is read."""

    rows: list[Row] = field(default_factory=list)
    copies: list[int] = field(default_factory=list)

    def add(self, row: Row, copies: int) -> None:
        self.rows.append(row)
        self.copies.append(copies)

    def table(self, split: str, lengths: np.ndarray) -> pa.Table:
        """As DOCUMENTS."""
        sizes = np.array([len(row["text"].encode()) for row in self.rows], np.int64)
        copies = np.array(self.copies, np.int64)
        columns = {
            "id": text_column(row["id"] for row in self.rows),
            "source": text_column(row["source"] for row in self.rows),
            "split": text_column([split] * len(self.rows)),
            "copies": number_column(copies),
            "tokens": number_column(copies * lengths.astype(np.int64)),
            "bytes": number_column(copies * sizes),
        }
        return pa.table(columns, DOCUMENTS)


def encode_shard(work: Work) -> Part:
    """One copy of the documents of a shard that are read that often."""
    tokenizer, encoder = _load(work.tokenizer, work.tokenizer_hash)
    mix = Mix(work.config.weights, work.config.seed)
    drawn, left_out = {name: _Drawn() for name in SPLITS}, _Drawn()
    for row in read_shard(work.path, ("id", "source", "text")).to_pylist():
        is_val = hash_fraction(f"val {row['id']}") < work.config.val_frac
        copies = 1 if is_val else mix.copies(row["id"], row["source"])
        if copies > work.copy:
            drawn["val" if is_val else "train"].add(row, copies)
        elif not copies:
            left_out.add(row, 0)
    splits = {name: _encode(encoder, tokenizer, each.rows) for name, each in drawn.items()}
    if work.copy:
        return Part(splits, empty_table(DOCUMENTS))
    tables = [each.table(name, splits[name].lengths) for name, each in drawn.items()]
    return Part(
        splits, pa.concat_tables([*tables, left_out.table("train", np.zeros(len(left_out.rows)))])
    )


@lru_cache(maxsize=1)  # a process encodes many shards, and a large vocabulary takes seconds
def _load(folder: Path, tokenizer_hash: str) -> tuple[Tokenizer, Encoder]:
    tokenizer = Tokenizer.load(folder)
    assert tokenizer.hash == tokenizer_hash, "the stage that writes it has ended"
    return tokenizer, Encoder(tokenizer)


def _encode(encoder: Encoder, tokenizer: Tokenizer, rows: list[Row]) -> Encoded:
    dtype = id_dtype(tokenizer.vocab_size)
    ids, lengths = [np.empty(0, dtype)], []
    for start in range(0, len(rows), TEXTS):
        encoded = encoder.encode([row["text"] for row in rows[start : start + TEXTS]])
        separated = chain.from_iterable(([tokenizer.bos_id], each) for each in encoded)
        ids.append(np.fromiter(chain.from_iterable(separated), dtype))
        lengths += [len(each) + 1 for each in encoded]
    triples = count_triples(row["text"] for row in rows)
    return Encoded(np.concatenate(ids), np.array(lengths, np.int64), triples)
