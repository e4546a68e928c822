"""Where a file lies: here, on a web server, or in a store that fsspec knows."""

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

import fsspec

from llm.corpus.sources.http import HttpFile
from llm.errors import DataError

BUFFER_BYTES = 1 << 20
HTTP = ("http://", "https://")


def is_remote(location: str) -> bool:
    """Whether it is a URL rather than a path."""
    return "://" in location


def open_location(
    location: str, allow_private: Sequence[str], start: int = 0, sharers: int = 1
) -> BinaryIO:
    """A file's bytes from `start` on; the errors of `HttpFile`, or OSError."""
    if location.startswith(HTTP):
        raw = HttpFile(location, allow_private, start, sharers)
        return io.BufferedReader(raw, BUFFER_BYTES)
    raw: Any
    if is_remote(location):
        system, path = fsspec.core.url_to_fs(location)
        raw = system.open(path, "rb")
    else:
        raw = io.FileIO(location)
    raw.seek(start)
    return io.BufferedReader(raw, BUFFER_BYTES)


def expand(pattern: str, endings: tuple[str, ...], where: str) -> list[str]:
    """The files that a path, folder or pattern means, sorted; DataError when there are none.

    A URL of a web server is one file. File systems that go through another one are refused: they
    would reach web servers without the guard of `HttpFile`.
    """
    if "::" in pattern:
        raise DataError(f"{where}: {pattern} is a chain of file systems; name one, e.g. s3://")
    if pattern.startswith(HTTP):
        return [pattern]
    try:
        system, path = fsspec.core.url_to_fs(pattern)
        if system.isdir(path):
            found = [name for name in system.find(path) if name.endswith(endings)]
        else:
            found = system.glob(path)
    except Exception as error:  # each store's client has errors of its own
        name = type(error).__name__
        raise DataError(f"{where}: {pattern} can't be listed: {name}: {error}") from None
    if not found:
        raise DataError(f"{where}: {pattern} is no file; correct the path")
    return sorted(system.unstrip_protocol(name) if is_remote(pattern) else name for name in found)
