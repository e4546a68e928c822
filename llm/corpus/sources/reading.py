"""Every kind of source as parts that one process reads each, and goes on with after a stop."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from llm.config.corpus import (
    CommonCrawlSource,
    FolderSource,
    HuggingFaceSource,
    PythonDocsSource,
    Source,
    UrlSource,
    WarcSource,
)
from llm.corpus.documents import GATHERED, Row, read_shard, text_schema, valid_unicode, write_rows
from llm.corpus.sources.folder import folder_files, read_folder_file
from llm.corpus.sources.huggingface import dataset_shards, read_dataset
from llm.corpus.sources.items import Found, Item, NotResumableError, Skipped
from llm.corpus.sources.location import is_remote
from llm.corpus.sources.python_docs import PythonFile, batches, python_files, read_python_files
from llm.corpus.sources.url import read_url, url_files
from llm.corpus.sources.warc import crawl_files, read_archive, warc_files
from llm.files import read_json, write_file, write_json

SKIPPED = ("source", "url", "reason", "detail")
PART_BYTES = 4_000_000  # of small files that are one part
SKIPPED_BYTES = 200  # of a skipped record, roughly


@dataclass(frozen=True)
class Part:
    """A file, an archive, a shard: what one process reads."""

    source: Source
    names: tuple[str, ...]  # of the file, archive or shard; of several small files
    folder: Path  # for its work in progress
    chunk_bytes: int  # text that may be lost when the process is killed
    sharers: int = 1  # processes that read other parts of the source meanwhile
    files: tuple[PythonFile, ...] = ()  # of python_docs


@dataclass(frozen=True)
class Gathered:
    """What a part gave, as files in its folder."""

    folder: Path
    chunks: int
    documents: int
    skipped: dict[str, int]  # by reason

    def tables(self, *columns: str) -> Iterator[pa.Table]:
        """The documents in order, all columns or the named ones."""
        for number in range(self.chunks):
            yield read_shard(self.folder / f"{number:05d}.parquet", columns or None)

    def skipped_tables(self) -> Iterator[pa.Table]:
        """What was skipped, in order."""
        for number in range(self.chunks):
            yield read_shard(self.folder / f"{number:05d}.skipped.parquet")


def list_parts(source: Source, work: Path, chunk_bytes: int, workers: int) -> list[Part]:
    """The parts of a source, in its order; DataError when it can't be read at all."""

    match source:
        case PythonDocsSource():
            groups = batches(python_files(source))
            named = [((f"{number:05d}",), tuple(files)) for number, files in enumerate(groups)]
        case FolderSource():
            named = [(names, ()) for names in _grouped(source, folder_files(source))]
        case UrlSource():
            named = [((name,), ()) for name in url_files(source)]
        case WarcSource():
            named = [((name,), ()) for name in warc_files(source)]
        case CommonCrawlSource():
            named = [((name,), ()) for name in crawl_files(source)]
        case HuggingFaceSource():
            named = [((name,), ()) for name in dataset_shards(source)]
    sharers = min(workers, len(named))
    return [
        Part(source, names, _folder(source, names, work), chunk_bytes, sharers, files)
        for names, files in named
    ]


def local_paths(source: Source) -> list[str]:
    """The files and folders of this machine that a source reads, packages apart."""
    match source:
        case FolderSource():
            return [source.path]
        case WarcSource():
            return [path.partition("*")[0] for path in source.paths if not is_remote(path)]
        case HuggingFaceSource():
            return [source.path] if Path(source.path).is_dir() else []
        case _:
            return []


def _grouped(source: FolderSource, names: list[str]) -> list[tuple[str, ...]]:
    """Runs of files of about PART_BYTES: a part each would cost more than reading a small one."""
    runs: list[list[str]] = []
    room = 0
    for name in names:
        size = Path(source.path, name).stat().st_size
        if size > room:
            runs.append([])
            room = PART_BYTES
        runs[-1].append(name)
        room -= size  # a large file is alone: nothing follows it, so that it can be gone on with
    return [tuple(run) for run in runs]


def _folder(source: Source, names: tuple[str, ...], work: Path) -> Path:
    """One per content: a local file that was changed since is another part."""
    about = []
    for name in names:
        local = Path(source.path, name) if isinstance(source, FolderSource) else Path(name)
        known = isinstance(source, FolderSource | WarcSource) and local.is_file()
        stat = local.stat() if known else None
        about.append([name, stat.st_size, stat.st_mtime_ns] if stat else [name])
    digest = hashlib.sha1(json.dumps([source.model_dump(mode="json"), about]).encode())
    return work / f"{source.name}-{digest.hexdigest()[:16]}"


def _items(part: Part, start: int) -> Iterator[Item]:
    """What is in a part, after position `start`."""
    source, name = part.source, part.names[0]
    match source:
        case PythonDocsSource():
            return read_python_files(part.files, source.limits)
        case FolderSource():
            if len(part.names) > 1:
                return _small_files(source, part.names)
            return read_folder_file(source, name, start)
        case UrlSource():
            return read_url(source, name, part.folder, part.sharers, start)
        case WarcSource() | CommonCrawlSource():
            return read_archive(
                source.name, name, source.limits, source.allow_private, start, part.sharers
            )
        case HuggingFaceSource():
            return read_dataset(source, name, start)


def _small_files(source: FolderSource, names: tuple[str, ...]) -> Iterator[Item]:
    """Of several files: no position is one to go on from."""
    for name in names:
        for item in read_folder_file(source, name, 0):
            yield replace(item, position=0)


def gather_part(part: Part) -> Gathered:
    """Read a part to its end, or to its source's limit, going on where a former process stopped."""
    try:
        return _Progress(part).finish()
    except NotResumableError:
        shutil.rmtree(part.folder)
        return _Progress(part).finish()


class _Progress:
    """A part's chunks on disk, and how far they reach."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._state = part.folder / "state.json"
        known = read_json(self._state) if self._state.exists() else {}
        self._done: bool = known.get("done", False)
        self._chunks: int = known.get("chunks", 0)
        self._position: int = known.get("position", 0)
        self._documents: int = known.get("documents", 0)
        self._skipped = Counter[str](known.get("skipped", {}))

    def finish(self) -> Gathered:
        """Read what is left."""
        if not self._done:
            self._read()
        part = self._part
        return Gathered(part.folder, self._chunks, self._documents, dict(self._skipped))

    def _read(self) -> None:
        most = self._part.source.limits.max_documents
        found, skipped, held_bytes = [], [], 0
        # python_docs, whole texts and small files give no positions to go on from: they are saved once, at the end
        for item in _items(self._part, self._position):
            if held_bytes >= self._part.chunk_bytes and item.position > self._position:
                self._save(found, skipped, done=False)
                found, skipped, held_bytes = [], [], 0
            if isinstance(item, Found):
                found.append(item)
                held_bytes += len(item.row["content"])
            else:
                skipped.append(item)
                held_bytes += SKIPPED_BYTES
            if most and self._documents + len(found) >= most:
                break
        self._save(found, skipped, done=True)

    def _save(self, found: list[Found], skipped: list[Skipped], *, done: bool) -> None:
        """Keep what was read: rows first, so that the state never tells of rows that are not there."""
        stem = self._part.folder / f"{self._chunks:05d}"
        source = self._part.source.name
        with write_file(stem.with_suffix(".parquet")) as path:
            write_rows(path, [item.row for item in found], text_schema(*GATHERED))
        with write_file(stem.with_suffix(".skipped.parquet")) as path:
            rows = [{"source": source, **_fields(item)} for item in skipped]
            write_rows(path, rows, text_schema(*SKIPPED))
        self._chunks += 1
        self._documents += len(found)
        self._skipped += Counter(item.reason for item in skipped)
        self._position = max([self._position, *(item.position for item in (*found, *skipped))])
        self._done = done
        write_json(
            self._state,
            {
                "done": done,
                "chunks": self._chunks,
                "position": self._position,
                "documents": self._documents,
                "skipped": dict(self._skipped),
            },
        )


def _fields(item: Skipped) -> Row:
    return {
        "url": valid_unicode(item.url),
        "reason": item.reason,
        "detail": valid_unicode(item.detail),
    }
