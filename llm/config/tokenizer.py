"""Sections of the tokenizer and tokenize stages."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from llm.config.base import Section


class TokenizerConfig(Section):
    """Byte-level BPE."""

    init_from: str
    """A Hugging Face folder whose tokenizer is taken, chat markers added; empty: train one."""
    vocab_size: Annotated[int, Field(ge=262)]
    """256 bytes, the 6 special tokens and the merges."""
    sample_bytes: PositiveInt
    """Text the merges are learnt from."""
    min_frequency: PositiveInt
    """Pairs seen less often are not merged."""
    max_digits: PositiveInt
    """Longest run of digits in one token."""
    white_space: Literal["runs", "single"]
    """A run of white space may be one token, as indentation is in code; or every character apart."""


class TokenizeConfig(Section):
    """Token shards and the train/val split."""

    val_frac: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of documents, by hash of the id."""
    shard_tokens: PositiveInt
    """Tokens per file."""
