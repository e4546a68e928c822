"""Sections of the tokenizer and tokenize stages."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

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


class SourceWeight(Section):
    """How often a source's documents are read."""

    source: str
    """A name among gather.sources."""
    weight: Annotated[float, Field(ge=0, le=1000)]
    """2.5: all of them twice, and half of them once more; 0.1: a tenth of them; 0: none."""


class TokenizeConfig(Section):
    """Token shards, the train/val split, and the mixture of sources."""

    val_frac: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of documents, by hash of the id."""
    shard_tokens: PositiveInt
    """Tokens per file."""
    weights: list[SourceWeight]
    """Of the training split, and never of val; a source that is not named has weight 1."""
    seed: NonNegativeInt
    """Of the draw of documents of sources with a fractional weight."""
    megatron: bool
    """Also write both splits as Megatron-LM's .bin and .idx."""

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        names = [each.source for each in self.weights]
        if len(set(names)) != len(names):
            raise ValueError(f"weights names a source twice: {', '.join(names)}")
        return self
