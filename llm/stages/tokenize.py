"""Stage tokenize: the corpus as token shards, split into train and val.

Reads    data/decontaminate/kept   documents
         data/tokenizer
Writes   data/tokenize/train       token shards: each document's ids after <|endoftext|>
         data/tokenize/val         the same for a share `val_frac` of the documents, by hash
         data/tokenize/val.json    bytes, tokens: they turn nats per token into bits per byte
Metrics  tokenize.json             train, val: tokens, documents, bytes; order2_bpb: bits per
                                   byte of val under an order-2 byte model of train
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from llm.cluster import map_shards
from llm.config.tokenizer import TokenizeConfig
from llm.corpus.documents import hash_fraction, read_shard, shard_paths
from llm.data.byte_model import ByteModel
from llm.data.shards import write_shards
from llm.errors import DataError
from llm.files import write_dir, write_json
from llm.process import Context, main
from llm.tokenizer.load import Tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """One shard to encode."""

    path: Path
    tokenizer: Path
    val_frac: float


@dataclass(frozen=True)
class Part:
    """What one shard gives to a split."""

    ids: np.ndarray
    texts: list[str]

    def sizes(self) -> dict[str, int]:
        """The part's share of the split's metrics."""
        size = sum(len(text.encode()) for text in self.texts)
        return {"tokens": len(self.ids), "documents": len(self.texts), "bytes": size}


@dataclass
class Split:
    """The sizes of a split, summed over shards."""

    name: str
    sizes: dict[str, int] = field(default_factory=lambda: {"tokens": 0, "documents": 0, "bytes": 0})

    def add(self, part: Part) -> None:
        """Count a shard's part."""
        for key, size in part.sizes().items():
            self.sizes[key] += size


def run(ctx: Context, *, tokenize: TokenizeConfig) -> dict[str, Any]:
    """Encode every shard; returns the stage's metrics."""
    folder = ctx.paths.stage("tokenizer")
    paths = shard_paths(ctx.paths.stage("decontaminate") / "kept")
    parts = map_shards(
        encode_shard, [Work(path, folder, tokenize.val_frac) for path in paths], ctx.workers
    )
    train, val = Split("train"), Split("val")
    baseline, val_parts = ByteModel(), list[Part]()

    def train_ids() -> Iterator[np.ndarray]:
        for train_part, val_part in parts:
            train.add(train_part)
            val.add(val_part)
            val_parts.append(val_part)
            baseline.update(train_part.texts)
            logger.info("%d tokens", train.sizes["tokens"] + val.sizes["tokens"])
            yield train_part.ids

    tokenizer = Tokenizer.load(folder)
    with write_dir(ctx.out) as partial:
        write_shards(partial / "train", train_ids(), tokenize.shard_tokens, tokenizer)
        val_ids = (part.ids for part in val_parts)
        write_shards(partial / "val", val_ids, tokenize.shard_tokens, tokenizer)
        for split in (train, val):
            if not split.sizes["documents"]:
                raise DataError(
                    f"tokenize.val_frac={tokenize.val_frac} leaves no document for {split.name}; "
                    "change it or gather more documents"
                )
        val_bytes = val.sizes["bytes"]
        write_json(partial / "val.json", {"bytes": val_bytes, "tokens": val.sizes["tokens"]})
    bits = baseline.bits(text for part in val_parts for text in part.texts)
    return {
        "train": train.sizes,
        "val": val.sizes,
        "order2_bpb": round(bits / val_bytes, 4),
    }


def encode_shard(work: Work) -> tuple[Part, Part]:
    """The train and val parts of one shard."""
    tokenizer = Tokenizer.load(work.tokenizer)
    rows = read_shard(work.path, ("id", "text")).to_pylist()
    in_val = [hash_fraction(f"val {row['id']}") < work.val_frac for row in rows]
    train = [row["text"] for row, is_val in zip(rows, in_val, strict=True) if not is_val]
    val = [row["text"] for row, is_val in zip(rows, in_val, strict=True) if is_val]
    return _encode(tokenizer, train), _encode(tokenizer, val)


def _encode(tokenizer: Tokenizer, texts: list[str]) -> Part:
    ids = [id_ for text in tokenizer.encode_batch(texts) for id_ in (tokenizer.bos_id, *text)]
    return Part(np.array(ids, np.uint32), texts)


if __name__ == "__main__":
    main("tokenize", run, tokenize=TokenizeConfig)
