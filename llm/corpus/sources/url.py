"""Files from the web: downloaded whole, checked against their checksum, then read."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from llm.config.corpus import File, UrlSource
from llm.corpus.sources.formats import Origin, is_readable, known_endings, read_file
from llm.corpus.sources.http import GoneError, HttpFile
from llm.corpus.sources.items import Item
from llm.corpus.sources.warc import ENDINGS, read_records_after
from llm.errors import DataError

CHUNK_BYTES = 1 << 20


def url_files(source: UrlSource) -> list[str]:
    """The files' urls; DataError for one whose ending says nothing of its content."""
    for file in source.files:
        name = file_name(file.url)
        if not (is_readable(name) or name.lower().endswith(ENDINGS)):
            raise DataError(
                f"gather.sources: {source.name}.files: {file.url} ends in no known kind of file; "
                f"known: {known_endings()}, {', '.join(ENDINGS)}"
            )
    return [file.url for file in source.files]


def file_name(url: str) -> str:
    """The last part of a url's path."""
    return PurePosixPath(unquote(urlsplit(url).path)).name


def read_url(
    source: UrlSource, url: str, folder: Path, sharers: int, start: int = 0
) -> Iterator[Item]:
    """The documents of one file after position `start`; it is kept in `folder` until it is read.

    NotResumableError as of an archive.
    """
    file = next(each for each in source.files if each.url == url)
    path = folder / file.sha256
    if not path.exists():
        download(file, source.allow_private, path, sharers)
    name = file_name(url)
    origin = Origin(source.name, url, source.text_field, {"file": name})
    with path.open("rb") as stream:
        if name.lower().endswith(ENDINGS):
            stream.seek(start)
            yield from read_records_after(source.name, url, stream, source.limits, start)
        else:
            yield from read_file(stream, name, origin, source.limits, start)
    path.unlink()


def download(file: File, allow_private: list[str], path: Path, sharers: int = 1) -> None:
    """Fetch a file to `path`, going on where a former process stopped; DataError if it is another.

    A file that is gone, or another one, stops the stage: a pinned input has no substitute.
    """
    partial = path.with_name(f"{path.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("ab") as out:
        raw = HttpFile(file.url, allow_private, out.tell(), sharers)
        try:
            with io.BufferedReader(raw, CHUNK_BYTES) as stream:
                while data := stream.read(CHUNK_BYTES):
                    out.write(data)
        except GoneError as error:
            raise DataError(
                f"gather.sources: {file.url} is not there ({error}); correct it"
            ) from None
    with partial.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != file.sha256:
        partial.unlink()
        raise DataError(
            f"gather.sources: {file.url} has sha256 {found}, not {file.sha256}; it was removed: "
            "correct the checksum if the new file is the one you mean"
        )
    os.replace(partial, path)
