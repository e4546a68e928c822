"""A file's documents, by the ending of its name: one per file, or one per row."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from llm.config.corpus import Limits
from llm.corpus.decode import decode
from llm.corpus.sources.inflate import CODECS, FREE_BYTES, BombError, inflated
from llm.corpus.sources.items import Found, Item, Skipped, document

MIMES = {
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".html": "text/html",
    ".htm": "text/html",
}
NOT_UTF_8 = re.compile("[\udc80-\udcff]")  # how `surrogateescape` keeps a byte that is none
PARQUET_ROWS = 256  # decoded at a time


@dataclass(frozen=True)
class Origin:
    """Of a file: what its documents say about where they are from."""

    source: str
    url: str
    text_field: str
    meta: dict[str, Any]

    def found(self, text: str, row: int, mime: str = "text/plain") -> Found:
        """The document of a row, counted from 1, or, as row 0, of the whole file."""
        meta = self.meta | ({"row": row} if row else {})
        return Found(document(self.source, self.at(row), mime, text, meta), row)

    def skipped(self, reason: str, detail: str, row: int = 0) -> Skipped:
        """A row that gives no document, or, as row 0, a file."""
        return Skipped(self.at(row), reason, detail, row)

    def at(self, row: int) -> str:
        """The url of a row."""
        return f"{self.url}#{row}" if row else self.url


def is_readable(name: str) -> bool:
    """Whether documents can be in a file of this name."""
    path = PurePosixPath(name.lower())
    if path.suffix in CODECS:
        return PurePosixPath(path.stem).suffix in (*MIMES, *ROWS)
    return path.suffix in (*MIMES, *ROWS, ".parquet")


def known_endings() -> str:
    """What `is_readable` accepts, for a message."""
    return f"{', '.join((*MIMES, *ROWS, '.parquet'))} (or with {' or '.join(CODECS)})"


def read_file(
    stream: BinaryIO, name: str, origin: Origin, limits: Limits, start: int = 0
) -> Iterator[Item]:
    """The documents of an open file, after row `start`; what it can't read, it says in an item.

    Nothing that the file holds raises, and no more than a record of it is in memory.
    """
    row, is_empty = 0, True
    try:
        reader, ending = inflated(stream, name, limits.max_inflation)
        read = ROWS.get(ending) or (_parquet if ending == ".parquet" else _whole)
        for item in read(reader, ending, origin, limits):
            row, is_empty = item.position, False
            if row > start or row == 0:
                yield item
        if is_empty:
            yield origin.skipped("empty", "no row")
    except BombError as error:
        yield origin.skipped("bomb", f"after row {row}: {error}" if row else str(error))
    except (OSError, EOFError) as error:
        detail = f"after row {row}: {error}" if row else str(error)
        yield origin.skipped("damaged", detail)


def _whole(reader: BinaryIO, ending: str, origin: Origin, limits: Limits) -> Iterator[Item]:
    """The one document of a file of text."""
    data = reader.read(limits.max_record_bytes + 1)
    if len(data) > limits.max_record_bytes:
        yield origin.skipped("too_long", _longer(limits))
        return
    mime = MIMES[ending]
    try:
        text, encoding = decode(data, html=mime == "text/html")
    except LookupError as error:
        yield origin.skipped("encoding", str(error))
        return
    if not text.strip():
        yield origin.skipped("empty", f"{len(data)} bytes")
        return
    meta = {} if encoding == "utf-8" else {"encoding": encoding}
    file = Origin(origin.source, origin.url, origin.text_field, origin.meta | meta)
    yield file.found(text, 0, mime)


def _jsonl(reader: BinaryIO, ending: str, origin: Origin, limits: Limits) -> Iterator[Item]:
    for number, line in _lines(reader, limits.max_record_bytes):
        if line is None:
            yield origin.skipped("too_long", _longer(limits), number)
        elif line.strip():
            yield _parsed(line, origin, number)


def _parsed(line: bytes, origin: Origin, number: int) -> Item:
    """The document of one line of JSON."""
    try:
        row = json.loads(line.decode("utf-8"))  # bytes would be guessed at, as UTF-16 for instance
    except UnicodeDecodeError as error:
        return origin.skipped("encoding", f"not UTF-8 at byte {error.start} of the row", number)
    except (ValueError, RecursionError) as error:
        return origin.skipped("not_json", str(error), number)
    return _from_row(row, origin, number)


def _from_row(row: Any, origin: Origin, number: int) -> Item:
    text = row.get(origin.text_field) if isinstance(row, dict) else None
    if isinstance(text, str):
        return origin.found(text, number)
    shown = ", ".join(row) if isinstance(row, dict) else type(row).__name__
    detail = f"no text in field {origin.text_field!r}; the row has {shown or 'nothing'}"
    return origin.skipped("no_text", detail[:500], number)


def _json(reader: BinaryIO, ending: str, origin: Origin, limits: Limits) -> Iterator[Item]:
    """An object, or a list of them, which is one record: it is parsed as a whole."""
    data = reader.read(limits.max_record_bytes + 1)
    if len(data) > limits.max_record_bytes:
        yield origin.skipped("too_long", f"{_longer(limits)}; JSONL is read row by row")
        return
    try:
        value = json.loads(decode(data)[0])
    except (ValueError, RecursionError, LookupError) as error:
        yield origin.skipped("not_json", str(error))
        return
    rows = value if isinstance(value, list) else [value]
    yield from (_from_row(row, origin, number) for number, row in enumerate(rows, start=1))


def _csv(reader: BinaryIO, ending: str, origin: Origin, limits: Limits) -> Iterator[Item]:
    """Rows below a header; a cell may hold line feeds."""
    csv.field_size_limit(limits.max_record_bytes)
    number = 0
    header: list[str] | None = None
    rows = csv.reader(_csv_lines(reader, limits.max_record_bytes))
    while True:
        try:
            row = next(rows, None)
        except csv.Error as error:
            number += 1
            long = "field larger" in str(error)
            yield origin.skipped("too_long" if long else "not_csv", str(error), number)
            continue
        if row is None:
            return
        if header is None:
            header = row
        elif row:
            number += 1
            item = _from_row(dict(zip(header, row, strict=False)), origin, number)
            if any(NOT_UTF_8.search(cell) for cell in row):
                item = origin.skipped("encoding", "not UTF-8", number)
            yield item


def _csv_lines(reader: BinaryIO, limit: int) -> Iterator[str]:
    for _, line in _lines(reader, limit):
        # a line beyond the limit stays longer than the limit, so that its row is refused
        yield "x" * (limit + 1) if line is None else line.decode("utf-8-sig", "surrogateescape")


def _parquet(reader: BinaryIO, ending: str, origin: Origin, limits: Limits) -> Iterator[Item]:
    try:
        file = pq.ParquetFile(reader)
        size = reader.seek(0, io.SEEK_END)
        number = 0
        if origin.text_field not in file.schema_arrow.names:
            detail = f"no column {origin.text_field!r}; it has {', '.join(file.schema_arrow.names)}"
            yield origin.skipped("no_text", detail[:500])
            return
        groups = (file.metadata.row_group(n).total_byte_size for n in range(file.num_row_groups))
        if sum(groups) > max(FREE_BYTES, limits.max_inflation * size):
            raise BombError(f"{size:,} bytes of parquet say that they inflate beyond max_inflation")
        for batch in file.iter_batches(PARQUET_ROWS, columns=[origin.text_field]):
            for text in batch.column(0):
                number += 1
                yield _cell(text.as_py(), origin, limits, number)
    except pa.ArrowException as error:
        yield origin.skipped("damaged", str(error)[:500])


def _cell(text: Any, origin: Origin, limits: Limits, number: int) -> Item:
    if isinstance(text, str) and len(text.encode()) > limits.max_record_bytes:
        return origin.skipped("too_long", _longer(limits), number)
    return _from_row({origin.text_field: text}, origin, number)


def _lines(reader: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line; None for one beyond the limit, which is never held."""
    number = 0
    while line := reader.readline(limit + 1):
        number += 1
        if len(line) <= limit or line.endswith(b"\n"):
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = reader.readline(1 << 20)
        yield number, None


def _longer(limits: Limits) -> str:
    return f"more than max_record_bytes={limits.max_record_bytes:,}"


Reader = Callable[[BinaryIO, str, Origin, Limits], Iterator[Item]]
ROWS: dict[str, Reader] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
