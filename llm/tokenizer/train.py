"""Learn a byte-level BPE from text: `llm/tokenizer/bpe.py`'s algorithm by the library `tokenizers`."""

from collections.abc import Iterator

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from llm.config.tokenizer import TokenizerConfig
from llm.tokenizer.chat import SPECIALS


def split_pattern(max_digits: int, white_space: str) -> str:
    """What merges may not cross the ends of: GPT-4's pattern (cl100k_base), with two choices.

    Digit runs of at most `max_digits`; white space in `runs`, as GPT-4, of which the last
    character goes with the word after it, or every character `single`.
    """
    spaces = {"runs": r"|\s*[\r\n]+|\s+(?!\S)|\s+", "single": r"|\s"}
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        rf"|\p{{N}}{{1,{max_digits}}}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    ) + spaces[white_space]


def train_tokenizer(texts: Iterator[str], config: TokenizerConfig) -> tokenizers.Tokenizer:
    """A byte-level BPE of at most `vocab_size` ids: the special tokens, 256 bytes, the merges.

    Lossless on every text, since any byte has an id and nothing is normalised; the same
    texts give the same tokenizer. A small sample may hold fewer pairs than asked for.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    pattern = tokenizers.Regex(split_pattern(config.max_digits, config.white_space))
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
