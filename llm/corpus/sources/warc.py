"""Web archives: a document per response (WARC) or conversion (WET) record that holds text."""

import gzip
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from fastwarc.stream_io import BrotliReader, ChunkedReader, GzipReader, WarcReader, ZstdReader
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from llm.config.corpus import CommonCrawlSource, Limits, WarcSource
from llm.corpus.decode import decode
from llm.corpus.sources.http import GoneError
from llm.corpus.sources.inflate import FREE_BYTES
from llm.corpus.sources.items import Found, Item, NotResumableError, Skipped, document
from llm.corpus.sources.location import expand, is_remote, open_location
from llm.errors import DataError

ENDINGS = tuple(
    f".{kind}{packed}" for kind in ("warc", "wet") for packed in ("", ".gz", ".zst", ".lz4")
)
CHUNK = re.compile(rb"[0-9a-fA-F]+[^\r\n]*\r\n")
HTML = ("text/html", "application/xhtml+xml")
TEXT = ("text/plain", "text/markdown")
RECORD_STARTS = (b"WARC/", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18")
DOCUMENTS = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion


def warc_files(source: WarcSource) -> list[str]:
    """The archives that the source names, in its order."""
    where = f"gather.sources: {source.name}.paths"
    files = [file for path in source.paths for file in expand(path, ENDINGS, where)]
    return list(dict.fromkeys(files))


def crawl_files(source: CommonCrawlSource) -> list[str]:
    """The sample of a crawl's archives, in the crawl's order; reads its list of paths."""
    server = source.server.rstrip("/")
    listing = f"{server}/crawl-data/{source.crawl}/{source.archive}.paths.gz"
    try:
        with open_location(listing, source.allow_private) as stream:
            paths = gzip.decompress(stream.read(100_000_000)).decode().split()
    except (GoneError, OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(
            f"gather.sources: {source.name}: {listing} can't be read ({error}); correct `crawl`, "
            "`archive` or `server`"
        ) from None
    if source.max_files:
        sample = sorted(paths, key=lambda path: hashlib.sha1(path.encode()).digest())
        kept = set(sample[: source.max_files])
        paths = [path for path in paths if path in kept]
    return [f"{server}/{path}" for path in paths]


class Watched:
    """A stream as FastWARC reads it: counts its bytes and keeps what went wrong in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self.failure: Exception | None = None
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._stream.read(size)
        except Exception as error:  # FastWARC would make an OSError of any
            self.failure = error
            raise
        self.count += len(data)
        return data

    def tell(self) -> int:
        return self.count

    def close(self) -> None:
        pass


def read_archive(
    source: str,
    location: str,
    limits: Limits,
    allow_private: Sequence[str],
    start: int,
    sharers: int,
) -> Iterator[Item]:
    """The documents of one archive after the record at byte `start`.

    Items' positions are byte offsets of their records in the archive as it is stored.
    What is cut off, damaged or gone is an item. NotResumableError when no record begins at
    `start`; DataError when a server or store can't be reached, after its client's retries.
    """
    try:
        stream = open_location(location, allow_private, start, sharers)
        with stream:
            yield from read_records_after(source, location, stream, limits, start)
    except (GoneError, FileNotFoundError, PermissionError) as error:
        yield Skipped(location, "unreadable", str(error), start)
    except OSError as error:
        if is_remote(location):
            raise DataError(
                f"gather.sources: {location} can't be read on ({type(error).__name__}: {error}); "
                "run it again: it goes on from where it stopped"
            ) from None
        yield Skipped(location, "unreadable", str(error), start)


def read_records_after(
    source: str, location: str, stream: BinaryIO, limits: Limits, start: int
) -> Iterator[Item]:
    """The documents after the record at byte `start`, where the archive's stream stands.

    NotResumableError when no record begins there.
    """
    if start and not stream.peek(8).startswith(RECORD_STARTS):  # pyright: ignore[reportAttributeAccessIssue]
        raise NotResumableError(f"{location}: no record begins at byte {start}")
    for item in read_records(source, location, stream, limits, start):
        if item.position > start or not start:
            yield item


def read_records(
    source: str, location: str, stream: BinaryIO, limits: Limits, start: int = 0
) -> Iterator[Item]:
    """The documents of an archive whose stream stands at byte `start`."""
    watched = Watched(stream)
    inflated, position, last = 0, start, location
    is_empty = True
    try:
        records = ArchiveIterator(
            watched,  # pyright: ignore[reportArgumentType]
            parse_http=False,
            strict_mode=False,
        )
        for record in records:
            position, is_empty = start + record.stream_pos, False
            last = record.headers.get("WARC-Target-URI") or location
            inflated += record.content_length
            if inflated > max(FREE_BYTES, limits.max_inflation * watched.count):
                yield Skipped(
                    location, "bomb", f"at byte {position}: beyond max_inflation", position + 1
                )
                return
            if int(record.record_type) & int(DOCUMENTS):
                yield _judged(source, location, record, position, limits)
    except (OSError, ValueError) as error:
        if watched.failure is not None:
            raise watched.failure from None
        detail = f"after the record at byte {position} ({last}): {error}"
        yield Skipped(location, "damaged", detail, position + 1)
        return
    if is_empty:
        yield Skipped(location, "empty", "no record", position)


def _judged(source: str, location: str, record: WarcRecord, position: int, limits: Limits) -> Item:
    """The document of a record, or why it has none."""
    url = (record.headers.get("WARC-Target-URI") or f"{location}#{position}").strip("<> ")
    if record.content_length > limits.max_record_bytes:
        return Skipped(url, "too_long", f"{record.content_length:,} bytes", position)
    mime, charset = record.headers.get("Content-Type") or "", None
    if served := record.is_http:
        record.parse_http(strict_mode=False)
        if record.http_headers.status_code != 200:
            return Skipped(url, "status", f"HTTP {record.http_headers.status_code}", position)
        mime, charset = record.http_content_type or "", record.http_charset
    mime = mime.partition(";")[0].strip().lower()
    if mime not in (*HTML, *TEXT):
        return Skipped(url, "mime", mime or "none", position)
    size = record.content_length
    body = record.reader.read()
    if len(body) < size:
        detail = f"{len(body):,} of {size:,} bytes at byte {position} of {location}"
        return Skipped(url, "truncated", detail, position)
    try:
        body = _payload(record, body, limits.max_record_bytes) if served else body
        text, encoding = decode(body, charset, html=mime in HTML)
    except OSError as error:
        return Skipped(url, "damaged", str(error), position)
    except LookupError as error:
        return Skipped(url, "encoding", str(error), position)
    if len(body) > limits.max_record_bytes:
        return Skipped(url, "too_long", "when its content encoding is undone", position)
    meta = {"file": location, "offset": position, "encoding": encoding}
    meta |= {"date": date} if (date := record.headers.get("WARC-Date")) else {}
    kind = "text/html" if mime in HTML else mime
    # a page that was crawled twice is two documents
    row = document(source, f"{url}#{record.record_id or position}", kind, text, meta)
    return Found(row | {"url": url}, position)


def _payload(record: WarcRecord, body: bytes, limit: int) -> bytes:
    """The body as the server meant it; of a longer one, one byte more than the limit.

    Crawlers often undo the encodings and leave the headers: what does not begin as they
    say is taken as it is.
    """
    headers = record.http_headers
    reader: BinaryIO | WarcReader = io.BytesIO(body)
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower() and CHUNK.match(body):
        body = ChunkedReader(reader).read(limit + 1)
        reader = io.BytesIO(body)
    encoding = (headers.get("Content-Encoding") or "").strip().lower()
    if encoding in ("gzip", "x-gzip") and body.startswith(b"\x1f\x8b"):
        return GzipReader(reader).read(limit + 1)
    if encoding == "zstd" and body.startswith(b"\x28\xb5\x2f\xfd"):
        return ZstdReader(reader).read(limit + 1)
    if encoding == "br" and not body.lstrip().startswith(b"<"):
        return BrotliReader(reader).read(limit + 1)
    return body
