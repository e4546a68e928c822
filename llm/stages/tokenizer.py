"""Stage tokenizer: a byte-level BPE learnt from an even sample of the training documents.

With `init_from`, the tokenizer of that published folder, chat markers added.

Reads    data/decontaminate/kept      the sample; and
         data/decontaminate/heldout   what the tokenizer is measured on
Writes   data/tokenizer               tokenizer.json, tokenizer_config.json (with the chat
                                      template), special_tokens_map.json
Metrics  tokenizer.json               vocab_size, sample_bytes, sample_documents; of the held-out
                                      text, all of it, by_source and by_language: bytes,
                                      bytes_per_token, fertility (tokens per word)
"""

import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm.config.tokenizer import TokenizerConfig
from llm.corpus.documents import hash_fraction, read_documents, read_shard, shard_paths
from llm.files import write_dir
from llm.process import Context, main
from llm.tokenizer.fast import Encoder
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
    made = Tokenizer.load(ctx.out)
    logger.info("%d ids from %d bytes of text", made.vocab_size, sample.bytes)
    if not tokenizer.init_from and made.vocab_size < tokenizer.vocab_size:
        logger.warning(
            "tokenizer.vocab_size=%d is more than the sample holds: no other pair is in it "
            "tokenizer.min_frequency=%d times. What follows, the model too, has %d ids; "
            "raise tokenizer.sample_bytes or gather more text for more",
            tokenizer.vocab_size,
            tokenizer.min_frequency,
            made.vocab_size,
        )
    return {
        "vocab_size": made.vocab_size,
        "sample_documents": sample.documents,
        "sample_bytes": sample.bytes,
        **measure(made, corpus / "heldout"),
    }


def measure(tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    """How a folder's texts come apart: all of them, by source and by language."""
    encoder = Encoder(tokenizer)
    whole, by_source, by_language = _Measure(), defaultdict(_Measure), defaultdict(_Measure)
    for path in shard_paths(folder):
        rows = read_shard(path, ("source", "language", "text")).to_pylist()
        for row, ids in zip(rows, encoder.encode([row["text"] for row in rows]), strict=True):
            for each in (whole, by_source[row["source"]], by_language[row["language"]]):
                each.add(row["text"], len(ids))
    return {
        **whole.values(),
        "by_source": {name: by_source[name].values() for name in sorted(by_source)},
        "by_language": {name: by_language[name].values() for name in sorted(by_language)},
    }


@dataclass
class _Measure:
    """Sizes of some texts."""

    tokens: int = 0
    words: int = 0  # separated by white space
    bytes: int = 0  # of UTF-8

    def add(self, text: str, tokens: int) -> None:
        self.tokens += tokens
        self.words += len(text.split())
        self.bytes += len(text.encode())

    def values(self) -> dict[str, float]:
        """Texts of no token or word, which no stage leaves, have a measure of 0."""
        return {
            "bytes": self.bytes,
            "bytes_per_token": round(self.bytes / max(self.tokens, 1), 4),
            "fertility": round(self.tokens / max(self.words, 1), 4),
        }


def _text_bytes(path: Path) -> int:
    return sum(len(text.encode()) for text in read_shard(path, ("text",))["text"].to_pylist())


if __name__ == "__main__":
    main("tokenizer", run, tokenizer=TokenizerConfig)
