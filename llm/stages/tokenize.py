"""Stage tokenize: the corpus as token shards, split into train and val, its sources mixed by weight.

Reads    data/decontaminate/kept   documents
         data/tokenizer
Writes   data/tokenize/train       token shards: each document's ids after <|endoftext|>
         data/tokenize/val         the same for a share `val_frac` of the documents, by hash
         data/tokenize/val.json    bytes, tokens: they turn nats per token into bits per byte
         data/tokenize/documents   parquet shards: what the splits hold, each in its order:
                                   id, source, split, copies; tokens and bytes of all copies
         data/tokenize/left_out    parquet shards: id, source of what the weights leave out
         data/tokenize/megatron    {train,val}.{bin,idx}, where `megatron` asks for them
Metrics  tokenize.json             train, val: tokens, documents, bytes, copies included;
                                   by_source: documents, tokens and their share of train;
                                   order2_bpb: bits per byte of val under an order-2 byte
                                   model of train

The training stream is all first copies, in the corpus's order, then all second copies, and
so on, so that the copies of a document lie far apart. No more than a few shards are in memory.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pyarrow as pa

from llm.cluster.pool import map_shards
from llm.config.tokenizer import TokenizeConfig
from llm.corpus.columns import as_numpy, number_column
from llm.corpus.documents import shard_paths, write_table
from llm.data.byte_model import ByteModel, Triples
from llm.data.encode import SPLITS, Encoded, Part, Work, encode_shard
from llm.data.megatron import MegatronWriter
from llm.data.mix import Mix
from llm.data.shards import ShardWriter
from llm.errors import DataError
from llm.files import write_dir, write_json
from llm.process import Context, main
from llm.tokenizer.load import Tokenizer

SUMMED = {"tokens": "tokens", "documents": "copies", "bytes": "bytes"}  # columns

logger = logging.getLogger(__name__)


def run(ctx: Context, *, tokenize: TokenizeConfig) -> dict[str, Any]:
    """Encode every shard; returns the stage's metrics."""
    tokenizer = Tokenizer.load(ctx.paths.stage("tokenizer"))
    sizes, baseline, val_triples = _Sizes(), ByteModel(), Triples.none()
    with write_dir(ctx.out) as partial:
        with ExitStack() as stack:
            splits = {name: _Split(stack, partial / name, tokenize, tokenizer) for name in SPLITS}
            for number, part in enumerate(_parts(ctx, tokenize, tokenizer)):
                for name, encoded in part.splits.items():
                    splits[name].write(encoded)
                baseline.add(part.splits["train"].triples)
                val_triples += part.splits["val"].triples
                sizes.add(part.documents)
                _write_documents(partial, f"{number:05d}.parquet", part.documents)
                logger.info("%d tokens", sum(split.tokens for split in splits.values()))
        totals = {name: sizes.of(name) for name in SPLITS}
        for name in SPLITS:
            if not totals[name]["documents"]:
                raise DataError(
                    f"tokenize.val_frac={tokenize.val_frac} leaves no document for {name}; "
                    "change it or tokenize.weights, or gather more documents"
                )
        val = totals["val"]
        write_json(partial / "val.json", {"bytes": val["bytes"], "tokens": val["tokens"]})
    return {
        **totals,
        "by_source": sizes.by_source(),
        "order2_bpb": round(baseline.bits(val_triples) / val["bytes"], 4),
    }


def _parts(ctx: Context, config: TokenizeConfig, tokenizer: Tokenizer) -> Iterator[Part]:
    """Every shard's first copies, in order, then every shard's second copies, and so on."""
    folder = ctx.paths.stage("tokenizer")
    paths = shard_paths(ctx.paths.stage("decontaminate") / "kept")
    copies = range(Mix(config.weights, config.seed).most_copies)
    work = [Work(path, folder, tokenizer.hash, config, copy) for copy in copies for path in paths]
    with closing(map_shards(encode_shard, work, ctx)) as parts:
        yield from parts


def _write_documents(folder: Path, name: str, documents: pa.Table) -> None:
    """What the splits hold of a shard, and what the weights leave out of it."""
    if documents.num_rows:
        held = as_numpy(documents["copies"]) > 0
        left_out = documents.filter(number_column(~held)).select(["id", "source"])
        write_table(folder / "documents" / name, documents.filter(number_column(held)))
        write_table(folder / "left_out" / name, left_out)


class _Split:
    """The files of one split."""

    def __init__(
        self, stack: ExitStack, folder: Path, config: TokenizeConfig, tokenizer: Tokenizer
    ) -> None:
        self._shards = stack.enter_context(ShardWriter(folder, config.shard_tokens, tokenizer))
        self._megatron: MegatronWriter | None = None
        if config.megatron:
            path = folder.parent / "megatron" / folder.name
            self._megatron = stack.enter_context(MegatronWriter(path, tokenizer.vocab_size))

    @property
    def tokens(self) -> int:
        return self._shards.tokens

    def write(self, encoded: Encoded) -> None:
        """Append documents."""
        self._shards.write(encoded.ids)
        if self._megatron is not None:
            self._megatron.write(encoded.ids_ended(), encoded.lengths)


class _Sizes:
    """What the splits hold of each source, copies included."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(SUMMED, 0)
        )

    def add(self, documents: pa.Table) -> None:
        """Count a shard's documents."""
        columns = (documents[name].to_pylist() for name in ("split", "source", *SUMMED.values()))
        for split, source, *values in zip(*columns, strict=True):
            held = self._sums[split, source]
            for key, value in zip(SUMMED, values, strict=True):
                held[key] += value

    def of(self, split: str) -> dict[str, int]:
        """A split's sizes."""
        held = [sums for (name, _), sums in self._sums.items() if name == split]
        return {key: sum(sums[key] for sums in held) for key in SUMMED}

    def by_source(self) -> dict[str, dict[str, float]]:
        """Documents, tokens and the share of train's tokens of each source."""
        tokens = self.of("train")["tokens"]
        return {
            source: {
                "documents": sums["documents"],
                "tokens": sums["tokens"],
                "share": round(sums["tokens"] / max(tokens, 1), 6),
            }
            for (split, source), sums in sorted(self._sums.items())
            if split == "train"
        }


if __name__ == "__main__":
    main("tokenize", run, tokenize=TokenizeConfig)
