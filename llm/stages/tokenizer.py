"""Stage tokenizer: a byte-level BPE learnt from an even sample of the training documents.

With `init_from`, the tokenizer of that published folder, chat markers added.

Reads    data/decontaminate/kept      the sample; and
         data/decontaminate/heldout   what the tokenizer is measured on
Writes   data/tokenizer               tokenizer.json, tokenizer_config.json (with the chat
                                      template), special_tokens_map.json
Metrics  tokenizer.json               vocab_size, sample_bytes, sample_documents; on the held-out
                                      text: bytes_per_token, fertility (tokens per word)
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm.config.tokenizer import TokenizerConfig
from llm.corpus.documents import hash_fraction, read_documents, read_shard, shard_paths
from llm.files import write_dir
from llm.process import Context, main
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer

logger = logging.getLogger(__name__)


class Sample:
    """The texts of the documents whose hash falls below `sample_bytes` of the whole."""

    def __init__(self, folder: Path, sample_bytes: int) -> None:
        total = sum(_text_bytes(path) for path in shard_paths(folder))
        self._folder = folder
        self._share = sample_bytes / max(total, 1)
        self.documents = 0
        self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for row in read_documents(self._folder, ("id", "text")):
            if hash_fraction(f"tokenizer {row['id']}") < self._share:
                self.documents += 1
                self.bytes += len(row["text"].encode())
                yield row["text"]


def run(ctx: Context, *, tokenizer: TokenizerConfig) -> dict[str, Any]:
    """Train, write and measure the tokenizer; returns the stage's metrics."""
    corpus = ctx.paths.stage("decontaminate")
    sample = Sample(corpus / "kept", tokenizer.sample_bytes)
    with write_dir(ctx.out) as partial:
        if tokenizer.init_from:
            Tokenizer.adopt(Path(tokenizer.init_from)).save(partial)
        else:
            save_tokenizer(partial, train_tokenizer(iter(sample), tokenizer))
    vocab_size = Tokenizer.load(ctx.out).vocab_size
    logger.info("%d ids from %d bytes of text", vocab_size, sample.bytes)
    return {
        "vocab_size": vocab_size,
        "sample_documents": sample.documents,
        "sample_bytes": sample.bytes,
        **measure(Tokenizer.load(ctx.out), corpus / "heldout"),
    }


def measure(tokenizer: Tokenizer, folder: Path) -> dict[str, float]:
    """UTF-8 bytes per token and tokens per white-space separated word of a folder's texts."""
    tokens = words = size = 0
    for path in shard_paths(folder):
        texts = read_shard(path, ("text",))["text"].to_pylist()
        tokens += sum(len(ids) for ids in tokenizer.encode_batch(texts))
        words += sum(len(text.split()) for text in texts)
        size += sum(len(text.encode()) for text in texts)
    return {"bytes_per_token": round(size / tokens, 4), "fertility": round(tokens / words, 4)}


def _text_bytes(path: Path) -> int:
    return sum(len(text.encode()) for text in read_shard(path, ("text",))["text"].to_pylist())


if __name__ == "__main__":
    main("tokenizer", run, tokenizer=TokenizerConfig)
