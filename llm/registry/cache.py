"""DVC's cache, read: objects by md5, folders as lists of files, the run cache's entries.

An object lies at `files/md5/ab/cdef…`; that of a folder ends in `.dir` and is the JSON
list of its files. An entry of the run cache, `runs/xx/KEY/VALUE`, is what dvc.lock says of
one stage, from which DVC restores the stage's outs instead of running it again.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from llm.errors import DataError

OBJECT = re.compile(r"[0-9a-f]{30}(?:\.dir)?")
MD5 = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])(?:\.dir)?")
DIR = ".dir"
TEMPORARY = ".tmp"


class MissingObject(DataError):
    """An object that is not in the cache."""


class Cache:
    """The DVC cache in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, md5: str) -> Path:
        """Where the object lies, if it is there."""
        return self.folder / "files" / "md5" / md5[:2] / md5[2:]

    def has(self, md5: str) -> bool:
        """Whether the object is there; of a folder, only its list."""
        return self.path(md5).is_file()

    def files(self, md5: str) -> dict[str, str]:
        """Relative path to md5 of a folder's files; MissingObject when its list is not there."""
        path = self.path(md5)
        try:
            rows = json.loads(path.read_bytes())
            return {row["relpath"]: row["md5"] for row in rows}
        except FileNotFoundError:
            raise MissingObject(f"the DVC cache {self.folder} has no object {md5}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is no list of files ({error}); it is damaged: remove it and `dvc pull`, "
                "or run the stage again"
            ) from None

    def objects(self) -> Iterator[tuple[str, Path]]:
        """md5 and file of every object."""
        for prefix in _folders(self.folder / "files" / "md5"):
            for path in sorted(prefix.iterdir()):
                if len(prefix.name) == 2 and OBJECT.fullmatch(path.name):
                    yield prefix.name + path.name, path

    def entries(self) -> Iterator[Path]:
        """Every entry of the run cache."""
        for prefix in _folders(self.folder / "runs"):
            for key in _folders(prefix):
                yield from sorted(path for path in key.iterdir() if path.suffix != TEMPORARY)

    def halves(self) -> Iterator[Path]:
        """What DVC was writing when it was killed, under temporary names."""
        for root in (self.folder / "files" / "md5", self.folder / "runs"):
            if root.is_dir():
                yield from sorted(path for path in root.rglob(f"*{TEMPORARY}") if path.is_file())


def file_md5(path: Path) -> str:
    """The md5 that DVC has for a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def path_md5(path: Path) -> str | None:
    """The md5 that DVC has for a file or a folder; None when there is neither."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return listing_md5({file.relative_to(path).as_posix(): file_md5(file) for file in files})
    return file_md5(path) if path.is_file() else None


def listing_md5(files: Mapping[str, str]) -> str:
    """The md5 that DVC has for a folder of files, relative path to md5: that of their list as JSON."""
    rows = [{"md5": files[path], "relpath": path} for path in sorted(files)]
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode()).hexdigest() + DIR


def md5s_in(text: bytes) -> set[str]:
    """Every md5 that a dvc.lock, a .dvc file or a run-cache entry names, whatever else is in it.

    The text is not parsed: a lock file with conflict markers names what both sides need.
    """
    return {found.decode() for found in MD5.findall(text)}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
