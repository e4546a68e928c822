"""Sections of the corpus stages: gather, extract, filter, dedup, decontaminate."""

import ipaddress
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

from llm.config.base import Address, Section


def _network(value: str) -> str:
    """A network in its one form; refuses what is none."""
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise ValueError(f"{value!r} is not a network such as 10.0.0.0/8 or fd00::/8") from None


Fraction = Annotated[float, Field(ge=0, le=1)]
Network = Annotated[str, AfterValidator(_network)]
PackageName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]  # top-level


class Limits(Section):
    """What a source may cost; what goes beyond is skipped and counted."""

    max_documents: NonNegativeInt
    """Stop after the first so many; 0 is all."""
    max_record_bytes: Annotated[int, Field(gt=0, le=1_000_000_000)]
    """A longer file, line, cell or page is skipped as `too_long`."""
    max_inflation: Annotated[int, Field(ge=2)]
    """A compressed file that grows to more than so many times its size is left there, as `bomb`."""


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
    limits: Limits
    """Of its size; a record is a file of source code."""


class FolderSource(Section):
    """Files of a folder, recursively: .txt, .md and .html are a document each; .jsonl, .json,
    .csv and .parquet have one per row. All but .parquet may be compressed (.gz, .zst)."""

    kind: Literal["folder"]
    """Files."""
    name: str
    """The `source` column of its documents."""
    path: str
    """The folder: relative to the project's root, where it is committed, or absolute."""
    text_field: str
    """The field or column that holds the text of a row."""
    limits: Limits
    """Of its size."""


class File(Section):
    """One file to download."""

    url: Annotated[Address, Field(pattern=r"^https?://")]
    """Its name's ending says what is in it, as in a folder; also WARC."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Of the file as it is served; another one is refused."""


class UrlSource(Section):
    """Files from the web, each pinned by its checksum."""

    kind: Literal["url"]
    """Downloads."""
    name: str
    """The `source` column of its documents."""
    files: list[File] = Field(min_length=1)
    """Read in this order."""
    text_field: str
    """The field or column that holds the text of a row."""
    allow_private: list[Network]
    """Networks that may be read though they are not public, e.g. 10.0.0.0/8."""
    limits: Limits
    """Of their size."""


class WarcSource(Section):
    """Web archives: HTML and text of WARC responses, text of WET conversions; WAT is skipped."""

    kind: Literal["warc"]
    """Web archives."""
    name: str
    """The `source` column of its documents."""
    paths: list[Address] = Field(min_length=1)
    """Files, folders and patterns, here or s3://, and http(s) URLs; gzip, zstd or lz4."""
    allow_private: list[Network]
    """Networks that may be read though they are not public, e.g. 10.0.0.0/8."""
    limits: Limits
    """Of their size."""


class CommonCrawlSource(Section):
    """Archives of one crawl of Common Crawl."""

    kind: Literal["common_crawl"]
    """A crawl of the web."""
    name: str
    """The `source` column of its documents."""
    crawl: Annotated[str, Field(pattern=r"^CC-[A-Z]+(-[0-9]+)+$")]
    """Its id, e.g. CC-MAIN-2024-10."""
    archive: Literal["warc", "wet"]
    """Pages as they were served, or Common Crawl's own plain text of them."""
    max_files: NonNegativeInt
    """Of its list of archives, an even sample by hash; 0 is all (tens of thousands)."""
    server: Address
    """https://data.commoncrawl.org, or s3://commoncrawl."""
    allow_private: list[Network]
    """Networks that may be read though they are not public, e.g. 10.0.0.0/8."""
    limits: Limits
    """Of their size."""


class HuggingFaceSource(Section):
    """A dataset of the Hugging Face hub, or a folder in its form, read as a stream."""

    kind: Literal["huggingface"]
    """Datasets hub."""
    name: str
    """The `source` column of its documents."""
    path: str
    """Of the dataset on the hub, e.g. HuggingFaceFW/fineweb, or a local folder."""
    config: str | None
    """The dataset's configuration, e.g. sample-10BT; null is its default."""
    split: str
    """E.g. train."""
    revision: str | None
    """A commit of the dataset: pin one to get the same documents again; null is the newest."""
    text_field: str
    """The column that holds the text."""
    url_field: str | None
    """The column that holds where a document is from; null numbers the rows."""
    limits: Limits
    """Of its size."""


Source = Annotated[
    PythonDocsSource
    | FolderSource
    | UrlSource
    | WarcSource
    | CommonCrawlSource
    | HuggingFaceSource,
    Field(discriminator="kind"),
]


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
    """Main text of web pages, normalisation and language identification."""

    html: Literal["blocks", "trafilatura", "resiliparse"]
    """The extractor; blocks judges a page block by block, and is the fast one of Trafilatura's
    quality."""
    fallback_characters: NonNegativeInt
    """Of blocks: a page in which it finds fewer is Trafilatura's, if that finds more; 0: none is."""
    repair: bool
    """Undo mojibake such as `schÃ¶n` (ftfy)."""
    min_characters: PositiveInt
    """Shorter texts are dropped as `empty`."""
    language_characters: PositiveInt
    """Leading characters that language identification reads."""


class BoilerplateConfig(Section):
    """Lines or paragraphs that the kept documents share."""

    unit: Literal["line", "paragraph"]
    """Paragraphs are what empty lines separate."""
    max_documents: NonNegativeInt
    """A unit that more documents have is taken out of all of them; 0 leaves every one."""
    min_words: PositiveInt
    """A unit of fewer words is left."""


class DedupConfig(Section):
    """Near duplicates by MinHash-LSH: texts of which all rows of some band agree."""

    shingle_words: PositiveInt
    """Word n-gram that is hashed (FineWeb: 5)."""
    bands: PositiveInt
    """FineWeb: 14; more bands find less similar texts."""
    rows_per_band: PositiveInt
    """FineWeb: 8; the threshold is about (1/bands)^(1/rows_per_band)."""
    seed: NonNegativeInt
    """Of the hash functions."""
    keep: Literal["first", "longest"]
    """Which document of a cluster stays; of several longest, the first."""
    boilerplate: BoilerplateConfig
    """What is taken out of the documents that stay."""
    memory_bytes: Annotated[int, Field(ge=1_000_000)]
    """Of keys that a process sorts at a time; the rest waits on disk. Changes no result."""


class DecontaminateConfig(Section):
    """What is held out for evaluation, and what may not be trained on because of it."""

    heldout_frac: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of top-level objects, by hash."""
    ngram_words: PositiveInt
    """Length of the n-gram that contaminates (GPT-3: 13)."""
    max_ngram_documents: PositiveInt
    """N-grams in more documents are boilerplate (GPT-3: 10)."""
    evaluation_sets: list[str]
    """JSONL files whose text must not be trained on, beside the items of `benchmark.tasks`."""
    drop: bool
    """Drop contaminated documents, or only list them."""
