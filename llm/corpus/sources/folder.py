"""Files of a folder, recursively, as documents."""

import os
from collections.abc import Iterator
from pathlib import Path

from llm.config.corpus import FolderSource
from llm.corpus.sources.formats import Origin, is_readable, known_endings, read_file
from llm.corpus.sources.items import Item, Skipped
from llm.errors import DataError


def folder_files(source: FolderSource) -> list[str]:
    """Names below the folder, in an order of names alone; DataError when none of a known kind is.

    Links are followed, except back into a folder that is being walked; hidden files and folders
    are none.
    """
    root = Path(source.path)
    if not root.is_dir():
        raise DataError(
            f"gather.sources: {source.name}.path={source.path} is not a folder; correct the path"
        )
    files = [path.relative_to(root) for path in _walk(root, ())]
    if not any(is_readable(file.name) for file in files):
        raise DataError(
            f"gather.sources: {source.name}.path={source.path} holds no {known_endings()} file; "
            "put the text there or correct the path"
        )
    return [file.as_posix() for file in sorted(files, key=lambda file: file.parts)]


def _walk(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    if real in above:
        return
    for entry in os.scandir(folder):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(Path(entry.path), (*above, real))
        elif entry.is_file():
            yield Path(entry.path)


def read_folder_file(source: FolderSource, file: str, start: int) -> Iterator[Item]:
    """The documents of one file of the folder, after row `start`."""
    path = Path(source.path, file)
    origin = Origin(source.name, f"file:{file}", source.text_field, {"file": file})
    if not is_readable(path.name):
        yield origin.skipped("kind", f"its name ends in none of {known_endings()}")
        return
    try:
        stream = path.open("rb")
    except OSError as error:
        yield Skipped(origin.url, "unreadable", str(error))
        return
    with stream:
        yield from read_file(stream, path.name, origin, source.limits, start)
