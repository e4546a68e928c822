"""A folder that DVC keeps, named by md5 in a small file, and restored from cache or remote.

    reference = refer("models/dpo", md5)      # md5 as in dvc.lock, ending in .dir
    restore(reference, Path("somewhere"))     # links into the cache, or downloads

The package dvc is needed only where the cache that the reference names is not at hand.
"""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Self

from llm.errors import DataError
from llm.files import read_json, write_json
from llm.registry.cache import DIR, Cache, file_md5, path_md5

CREDENTIALS = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class StoredFile:
    """One file of the folder."""

    path: str  # below the folder, with slashes
    md5: str
    size: int  # bytes; -1 when the cache had none to look at

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.path).parts
        if not parts or ".." in parts or PurePosixPath(self.path).is_absolute():
            raise DataError(f"{self.path!r} is not a path below a folder")


@dataclass(frozen=True)
class Reference:
    """A folder that DVC keeps."""

    out: str  # its path in the project
    md5: str
    files: tuple[StoredFile, ...]
    cache: str  # DVC's cache where the reference was made; "" outside a DVC project
    remote: str | None  # the default remote's address there, without credentials

    def below(self, folder: str) -> Self:
        """The part that lies in one of its folders, e.g. `heldout/`."""
        return replace(self, files=tuple(f for f in self.files if f.path.startswith(folder)))


def refer(out: str, md5: str) -> Reference:
    """The folder whose md5 dvc.lock has; DataError when its list of files is nowhere to be found."""
    settings = _project()
    known = Reference(out, md5, (), settings.cache, _without_credentials(settings.remote_url))
    kept = Cache(Path(settings.cache))
    files = [StoredFile(path, of, _size(kept, of)) for path, of in _list_files(known).items()]
    return replace(known, files=tuple(files))


def write_reference(path: Path, reference: Reference) -> None:
    """Write the reference as JSON."""
    write_json(path, asdict(reference))


def read_reference(path: Path) -> Reference:
    """The inverse of `write_reference`; DataError for anything else."""
    values = read_json(path)
    try:
        return Reference(**values | {"files": tuple(StoredFile(**row) for row in values["files"])})
    except (TypeError, KeyError) as error:
        raise DataError(f"{path} does not name a folder that DVC keeps ({error})") from None


def restore(reference: Reference, folder: Path) -> Path:
    """Make `folder` hold the files, each of the right md5; returns `folder`.

    A file is a link into a cache that has it; else a copy of the checkout's, if that is
    unchanged; else it is downloaded from the remote. What is right already stays, so two
    processes may restore the same folder. DataError names the first that is not to be had.
    """
    for file in reference.files:
        place = folder / file.path
        if not has_md5(place, file.md5):
            place.parent.mkdir(parents=True, exist_ok=True)
            _restore_file(reference, file, place)
    return folder


def has_md5(path: Path, md5: str) -> bool:
    """Whether the file is there, with that content."""
    return path.is_file() and file_md5(path) == md5.removesuffix(DIR)


@dataclass(frozen=True)
class _Settings:
    """Where the DVC project around a folder keeps its data."""

    cache: str = ""
    remote: str | None = None  # name of the default one
    remote_url: str | None = None
    config: Any = None  # DVC's own, with the remote's credentials


@cache
def _settings(folder: Path) -> _Settings:
    """Imports DVC, which takes a second."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            found, config = repo.cache.local_cache_dir, repo.config
    except NotDvcRepoError:
        return _Settings()
    name = config["core"].get("remote")
    return _Settings(found, name, config["remote"][name]["url"] if name else None, config)


def _list_files(reference: Reference) -> dict[str, str]:
    """Path to md5 of the files, from a cache, an unchanged checkout or the remote."""
    for root in _caches(reference):
        if has_md5(root.path(reference.md5), reference.md5):
            return root.files(reference.md5)
    checkout = Path(reference.out)
    if path_md5(checkout) == reference.md5:
        files = [path for path in checkout.rglob("*") if path.is_file()]
        return {path.relative_to(checkout).as_posix(): file_md5(path) for path in sorted(files)}
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Cache(Path(scratch))
        place = fetched.path(reference.md5)
        place.parent.mkdir(parents=True)
        if _download(reference, reference.md5, place):
            return fetched.files(reference.md5)
    raise _gone(reference, "its list of files", reference.md5)


def _restore_file(reference: Reference, file: StoredFile, place: Path) -> None:
    for root in _caches(reference):
        if has_md5(root.path(file.md5), file.md5):
            with _written(place) as partial:
                partial.symlink_to(root.path(file.md5).absolute())
            return
    checkout = Path(reference.out) / file.path
    if has_md5(checkout, file.md5):
        with _written(place) as partial:  # a copy: DVC removes outs before it makes them again
            shutil.copyfile(checkout, partial)
    elif not _download(reference, file.md5, place):
        raise _gone(reference, file.path, file.md5)


def _download(reference: Reference, md5: str, place: Path) -> bool:
    """Copy an object from the remote; False when there is no remote, or it has not got it."""
    settings = _project()
    where = settings.remote or reference.remote
    if where is None:
        return False
    from dvc.exceptions import DvcException
    from dvc.fs import get_cloud_fs

    wanted = {"name": where} if settings.remote else {"url": where}
    try:
        found: Any = get_cloud_fs(settings.config, **wanted)  # its class may be None by type
        kind, options, root = found
        files = kind(**options)
        with _written(place) as partial:
            files.get_file(str(Cache(Path(root)).path(md5)), str(partial))
            if not has_md5(partial, md5):
                raise DataError(f"DVC's remote {where} has a damaged object {md5}; push it again")
    except FileNotFoundError:
        return False
    except (DvcException, OSError) as error:
        raise DataError(f"DVC's remote {where} does not give the object {md5}: {error}") from error
    return True


def _caches(reference: Reference) -> Iterator[Cache]:
    """The cache that the reference names, then that of the project we are in."""
    if reference.cache:
        yield Cache(Path(reference.cache))
    here = _project().cache
    if here and here != reference.cache:
        yield Cache(Path(here))


def _project() -> _Settings:
    """Of the working directory; empty where there is no DVC to ask."""
    try:
        return _settings(Path.cwd())
    except ModuleNotFoundError:
        return _Settings()


@contextmanager
def _written(place: Path) -> Iterator[Path]:
    """A name of this process's own to write to, which then becomes `place`."""
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        yield partial
        os.replace(partial, place)
    finally:
        partial.unlink(missing_ok=True)


def _size(cache: Cache, md5: str) -> int:
    return cache.path(md5).stat().st_size if cache.has(md5) else -1


def _without_credentials(url: str | None) -> str | None:
    return CREDENTIALS.sub("//", url) if url else None


def _gone(reference: Reference, what: str, md5: str) -> DataError:
    caches = " or ".join(str(each.folder) for each in _caches(reference)) or "(none)"
    return DataError(
        f"{reference.out} {reference.md5}: {what} (md5 {md5}) is not to be had, neither from "
        f"DVC's cache {caches} nor from its remote {reference.remote or '(none)'}; `dvc push` it "
        "where it was made, or make it again from the version's commit"
    )
