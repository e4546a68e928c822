"""The files that a version's corpus stages wrote, read where they lie.

Of a registered version that is the DVC cache, where nothing has a name: an out's md5 leads
to the list of its files, and that to each file. Of the checkout it is its own folders.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from llm.errors import DataError
from llm.registry.cache import Cache, MissingObject
from llm.registry.record import Record

SHARD = re.compile(r"[0-9][^/]*\.parquet")


class MissingData(DataError):
    """What a stage wrote is not on this machine."""


class Corpus(Protocol):
    """What a stage wrote: relative path to file; MissingData says what is not there."""

    def files(self, stage: str) -> Mapping[str, Path]: ...


class CachedCorpus:
    """A version's, in the DVC cache."""

    def __init__(self, record: Record, cache: Cache) -> None:
        self._record, self._cache = record, cache

    def files(self, stage: str) -> Mapping[str, Path]:
        path = self._record.folder_of(stage)
        if path is None:
            raise MissingData(f"{self._record.name} names no out of stage {stage}")
        md5 = self._record.outs[path]
        try:
            listed = self._cache.files(md5)
        except MissingObject:
            raise MissingData(f"{path} ({md5}) is no longer in the DVC cache") from None
        files = {name: self._cache.path(each) for name, each in listed.items()}
        if gone := [name for name, file in files.items() if not file.is_file()]:
            raise MissingData(f"{path}/{gone[0]} ({listed[gone[0]]}) is no longer in the DVC cache")
        return files


class CheckoutCorpus:
    """The checkout's, in its folder of data."""

    def __init__(self, data: Path) -> None:
        self._data = data

    def files(self, stage: str) -> Mapping[str, Path]:
        folder = self._data / stage
        if not folder.is_dir():
            raise MissingData(f"{folder} has not been made")
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {path.relative_to(folder).as_posix(): path for path in found}


def shards(corpus: Corpus, stage: str, folder: str = "") -> list[str]:
    """The document shards of a folder that a stage wrote, in their order."""
    return [
        str(path)
        for name, path in sorted(corpus.files(stage).items())
        if name.startswith(folder) and SHARD.fullmatch(name.removeprefix(folder))
    ]
