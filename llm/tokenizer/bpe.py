"""Train a byte-level BPE and write it as Hugging Face's files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from llm.config.tokenizer import TokenizerConfig
from llm.files import write_json, write_text
from llm.tokenizer.chat import BOS, CHAT_TEMPLATE, PAD, SPECIALS

TOKENIZER_FILE = "tokenizer.json"


def split_pattern(max_digits: int) -> str:
    """Where merges may not cross: GPT-4's pattern (cl100k_base) with digit runs of `max_digits`."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        rf"|\p{{N}}{{1,{max_digits}}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
        r"|\s*[\r\n]+"
        r"|\s+(?!\S)"
        r"|\s+"
    )


def train_tokenizer(texts: Iterator[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    """A byte-level BPE of at most `vocab_size` ids: the special tokens, 256 bytes, the merges.

    Lossless on every text, since any byte has an id and nothing is normalised; the same
    texts give the same tokenizer. A small sample may hold fewer pairs than asked for.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    pattern = tokenizers.Regex(split_pattern(config.max_digits))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
        [
            pre_tokenizers.Split(pattern, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(
    folder: Path, tokenizer: tokenizers.Tokenizer, block_size: int | None = None, bos: str = BOS
) -> None:
    """Write the files that transformers, vLLM and llama.cpp read; `block_size` is the model's.

    `bos` is the token that begins a text: ours, or a published tokenizer's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {"bos_token": bos, "eos_token": bos, "pad_token": PAD}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "additional_special_tokens": [t for t in SPECIALS if t not in (*names.values(), BOS)],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    if block_size is not None:
        config["model_max_length"] = block_size
    write_text(folder / TOKENIZER_FILE, tokenizer.to_str())
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", names)
