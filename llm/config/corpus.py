"""Sections of the corpus stages: gather, extract, filter, dedup, decontaminate."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from llm.config.base import Section

Fraction = Annotated[float, Field(ge=0, le=1)]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]  # top-level


class PythonDocsSource(Section):
    """Docstrings of the running interpreter's standard library and of installed packages."""

    kind: Literal["python_docs"]
    """Docstrings."""
    name: str
    """The `source` column of its documents."""
    stdlib: bool
    """Harvest the standard library."""
    packages: list[PackageName]
    """Import names of installed packages."""


class FolderSource(Section):
    """Text (.txt, .md) and JSONL files of a folder, recursively; one document per file or row."""

    kind: Literal["folder"]
    """Files."""
    name: str
    """The `source` column of its documents."""
    path: str
    """The folder: relative to the project's root, where it is committed, or absolute."""
    text_field: str
    """The JSONL field that holds the text."""


Source = Annotated[PythonDocsSource | FolderSource, Field(discriminator="kind")]


class GatherConfig(Section):
    """Where documents come from."""

    sources: list[Source] = Field(min_length=1)
    """Names must differ."""
    max_documents: NonNegativeInt
    """Per source, an even sample by hash; 0 is all."""
    shard_bytes: PositiveInt
    """Text bytes per shard, before compression."""

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        names = [source.name for source in self.sources]
        if len(set(names)) != len(names):
            raise ValueError(f"gather.sources names must differ, got {', '.join(names)}")
        return self


class ExtractConfig(Section):
    """Normalisation and language identification."""

    min_characters: PositiveInt
    """Shorter texts are dropped as `empty`."""
    language_characters: PositiveInt
    """Leading characters that language identification reads."""


class FilterConfig(Section):
    """Heuristic quality rules. Ratios are fractions of characters or words, 0 to 1."""

    languages: list[str] = Field(min_length=1)
    """ISO 639-1 codes to keep."""
    min_words: PositiveInt
    """Shorter documents are dropped."""
    max_words: PositiveInt
    """Longer documents are dropped."""
    min_mean_word_length: Annotated[float, Field(gt=0)]
    """Characters per word (Gopher, table A1)."""
    max_mean_word_length: Annotated[float, Field(gt=0)]
    """Characters per word (Gopher, table A1)."""
    max_symbol_ratio: Fraction
    """Characters but letters, digits, white space and .,;:'"()"""
    min_alphabetic_word_ratio: Fraction
    """Words with at least one letter (Gopher: 0.8)."""
    max_duplicate_line_ratio: Fraction
    """Lines seen before in the same document (Gopher: 0.3)."""
    max_digit_ratio: Fraction
    """Characters that are digits."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(
                f"min_words={self.min_words} must not exceed max_words={self.max_words}"
            )
        if self.min_mean_word_length > self.max_mean_word_length:
            raise ValueError(
                f"min_mean_word_length={self.min_mean_word_length} must not exceed "
                f"max_mean_word_length={self.max_mean_word_length}"
            )
        return self


class DedupConfig(Section):
    """MinHash-LSH: two texts are candidates when all rows of some band agree."""

    shingle_words: PositiveInt
    """Word n-gram that is hashed (FineWeb: 5)."""
    bands: PositiveInt
    """FineWeb: 14; more bands find less similar texts."""
    rows_per_band: PositiveInt
    """FineWeb: 8; the threshold is about (1/bands)^(1/rows_per_band)."""
    seed: NonNegativeInt
    """Of the hash functions."""


class DecontaminateConfig(Section):
    """What is held out for evaluation, and what may not be trained on because of it."""

    heldout_frac: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of top-level objects, by hash."""
    ngram_words: PositiveInt
    """Length of the n-gram that contaminates (GPT-3: 13)."""
    max_ngram_documents: PositiveInt
    """N-grams in more documents are boilerplate (GPT-3: 10)."""
    evaluation_sets: list[str]
    """JSONL files whose text must not be trained on."""
    drop: bool
    """Drop contaminated documents, or only list them."""
