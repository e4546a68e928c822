"""Datasets of the Hugging Face hub, or folders in their form, read as streams.

`datasets` is imported where it is used: it takes seconds, and other sources do without.
No dataset's own code is run.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llm.config.corpus import HuggingFaceSource
from llm.corpus.documents import valid_unicode
from llm.corpus.sources.items import Found, Item, Skipped, document
from llm.errors import DataError

if TYPE_CHECKING:
    from datasets import IterableDataset


def dataset_shards(source: HuggingFaceSource) -> list[str]:
    """The dataset's shards by number; DataError when it, the split or a column is missing."""
    dataset = _load(source)
    columns = dataset.column_names
    if columns is None:
        try:
            columns = list(next(iter(dataset), {}))
        except (OSError, ValueError) as error:
            raise DataError(
                f"gather.sources: {source.name}.path={source.path}: its first row can't be read: "
                f"{_short(error)}"
            ) from None
    for key, field in (("text_field", source.text_field), ("url_field", source.url_field)):
        if field is not None and field not in columns:
            raise DataError(
                f"gather.sources: {source.name}.{key}={field!r} is no column of {source.path}; "
                f"it has {', '.join(columns) or 'none'}"
            )
    return [str(number) for number in range(dataset.num_shards)]


def read_dataset(source: HuggingFaceSource, shard: str, start: int) -> Iterator[Item]:
    """The documents of one shard, after row `start`; DataError when the hub can't be reached."""
    dataset = _load(source)
    if dataset.num_shards > 1:
        dataset = dataset.shard(num_shards=dataset.num_shards, index=int(shard))
    number = start
    try:
        for row in dataset.skip(start) if start else dataset:
            number += 1
            yield _item(source, row, shard, number)
    except (OSError, ValueError) as error:  # what `datasets` gives up on after its own retries
        raise DataError(
            f"gather.sources: {source.name}: {source.path} can't be read on after row {number} of "
            f"shard {shard} ({_short(error)}); run it again: it goes on from where it stopped; "
            "correct the dataset if it stops there again"
        ) from None


def _load(source: HuggingFaceSource) -> "IterableDataset":
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetsError

    disable_progress_bars()
    try:
        return load_dataset(
            source.path,
            source.config,
            split=source.split,
            revision=source.revision,
            streaming=True,
        )
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"gather.sources: {source.name}.path={source.path} (config {source.config}, split "
            f"{source.split}, revision {source.revision}) can't be opened: {_short(error)}"
        ) from None


def _item(source: HuggingFaceSource, row: dict[str, Any], shard: str, number: int) -> Item:
    place = f"hf:{source.path}/{source.config or 'default'}/{source.split}#{shard}-{number}"
    text = row.get(source.text_field)
    if not isinstance(text, str):
        detail = f"{source.text_field!r} is {type(text).__name__}"
        return Skipped(place, "no_text", detail, number)
    if len(text.encode("utf-8", "replace")) > source.limits.max_record_bytes:
        return Skipped(place, "too_long", f"{len(text):,} characters", number)
    found = document(source.name, place, "text/plain", text, {"row": number, "shard": int(shard)})
    named = row.get(source.url_field) if source.url_field else None
    return Found(found if named is None else found | {"url": valid_unicode(str(named))}, number)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
