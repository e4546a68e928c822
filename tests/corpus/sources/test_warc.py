"""Web archives: which records are documents, and what becomes of damaged ones."""

import gzip
import io
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest
from fastwarc.warc import WarcRecord, WarcRecordType

from llm.config.corpus import CommonCrawlSource, Limits, WarcSource
from llm.corpus.sources.items import Found, Item, NotResumableError, Skipped
from llm.corpus.sources.warc import crawl_files, read_archive, warc_files
from llm.errors import DataError
from tests.conftest import ROOT
from tests.corpus.sources.server import ALLOWED, Server

SHARED = ROOT.parent / "shared" / "data" / "web"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
PAGE = "<html><body><p>A page of some text, no. {}.</p></body></html>"


def response(number: int, body: bytes | None = None, **headers: str) -> WarcRecord:
    status = headers.pop("status", "200 OK")
    body = PAGE.format(number).encode() if body is None else body
    lines = {"Content-Type": "text/html; charset=utf-8"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    head = f"HTTP/1.1 {status}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
    record = WarcRecord()
    record.init_headers(WarcRecordType.response, f"<urn:uuid:{number}>".encode())
    record.headers["WARC-Target-URI"] = f"http://example.org/{number}"
    record.headers["WARC-Record-ID"] = f"<urn:uuid:{number}>"
    record.headers["Content-Type"] = "application/http; msgtype=response"
    record.is_http = True
    record.set_bytes_content(head.encode() + body)
    return record


def other(kind: WarcRecordType, body: bytes, mime: str = "text/plain") -> WarcRecord:
    record = WarcRecord()
    record.init_headers(kind)
    record.headers["WARC-Target-URI"] = f"http://example.org/{kind!s}"
    record.headers["Content-Type"] = mime
    record.set_bytes_content(body)
    return record


def archive(*records: WarcRecord, packed: str = "") -> bytes:
    codec = {".gz": "gzip", ".zst": "zstd", ".lz4": "lz4", "": None}[packed]
    members = []
    for record in records:
        plain = io.BytesIO()
        record.write(plain)
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) if codec else sink as out:
            out.write(plain.getvalue())
        members.append(sink.getvalue().to_pybytes())
    return b"".join(members)


def read(path: Path, limits: Limits, start: int = 0) -> list[Item]:
    return list(read_archive("web", str(path), limits, [], start, 1))


def found(items: list[Item]) -> list[dict[str, str]]:
    return [item.row for item in items if isinstance(item, Found)]


def reasons(items: list[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Skipped)]


@pytest.fixture
def put(tmp_path: Path):
    def write(data: bytes, name: str = "a.warc") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".lz4"])
def test_records_come_back_from_every_compression_and_from_any_position(
    put, limits: Limits, packed: str
):
    path = put(archive(*map(response, range(9)), packed=packed), f"a.warc{packed}")
    items = read(path, limits)
    rows = found(items)
    assert [row["content"] for row in rows] == [PAGE.format(n) for n in range(9)]
    assert [row["url"] for row in rows] == [f"http://example.org/{n}" for n in range(9)]
    assert {row["mime"] for row in rows} == {"text/html"}
    assert len({row["id"] for row in rows}) == 9
    positions = [item.position for item in items]
    assert positions == sorted(set(positions))
    for number in (3, 8):
        again = read(path, limits, start=positions[number])
        assert found(again) == [row | {"meta": row["meta"]} for row in rows[number + 1 :]]


def test_going_on_where_no_record_begins_is_refused(put, limits: Limits):
    path = put(gzip.compress(archive(*map(response, range(3)))), "a.warc.gz")
    assert len(found(read(path, limits))) == 3
    with pytest.raises(NotResumableError):
        read(path, limits, start=20)


def test_only_pages_that_hold_text_are_documents_and_the_rest_says_why(put, limits: Limits):
    records = [
        other(WarcRecordType.warcinfo, b"software: x"),
        other(WarcRecordType.request, b"GET / HTTP/1.1\r\n\r\n"),
        response(1),
        response(2, status="404 Not Found"),
        response(3, b"\x89PNG", Content_Type="image/png"),
        response(4, b"x" * 1_100_000),
        other(WarcRecordType.conversion, "Größe".encode()),
        other(WarcRecordType.metadata, b"{}", "application/json"),
        response(5, "Größe überall in Österreich".encode("latin-1"), Content_Type="text/plain"),
        response(6, b"\0" * 5000),
    ]
    items = read(put(archive(*records)), limits)
    assert [row["content"] for row in found(items)] == [
        PAGE.format(1),
        "Größe",
        "Größe überall in Österreich",
    ]
    assert reasons(items) == ["status", "mime", "too_long", "encoding"]


def test_content_encodings_are_undone_but_not_beyond_the_limit(put, limits: Limits):
    page = PAGE.format(1).encode()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page), page)
    records = [
        response(1, gzip.compress(page), Content_Encoding="gzip"),
        response(2, page, Content_Encoding="gzip"),  # already undone by the crawler
        response(3, chunked, Transfer_Encoding="chunked"),
        response(4, gzip.compress(b"x" * 5_000_000), Content_Encoding="gzip"),
        response(5, gzip.compress(page)[:-20], Content_Encoding="gzip"),
    ]
    items = read(put(archive(*records)), limits)
    assert [row["content"] for row in found(items)][:3] == [PAGE.format(1)] * 3
    assert "too_long" in reasons(items)


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_an_archive_cut_in_a_record_gives_what_is_whole(put, limits: Limits, packed: str):
    long = "".join(f"<p>{number * 7919 % 100_003}" for number in range(20_000)).encode()
    whole = archive(response(1), response(2), packed=packed)
    last = archive(response(3, long), packed=packed)
    items = read(put(whole + last[: len(last) * 2 // 3], f"a.warc{packed}"), limits)
    assert len(found(items)) == 2
    assert reasons(items) == ["truncated"]
    assert items[-1].url == "http://example.org/3"


def test_a_damaged_archive_gives_what_is_before_the_damage(put, limits: Limits):
    data = bytearray(archive(*map(response, range(5)), packed=".gz"))
    position = read(put(bytes(data), "a.warc.gz"), limits)[3].position
    data[position + 20 : position + 60] = b"\xff" * 40
    items = read(put(bytes(data), "a.warc.gz"), limits)
    assert len(found(items)) == 3
    assert set(reasons(items)) <= {"damaged", "truncated"}
    assert reasons(items)
    assert reasons(read(put(b"no archive" * 100), limits)) == ["damaged"]
    assert reasons(read(put(b""), limits)) == ["empty"]


def test_a_bomb_is_left(put, limits: Limits):
    records = [response(n, b"<p>" + b"x" * 900_000) for n in range(60)]
    items = read(put(archive(*records, packed=".gz"), "a.warc.gz"), limits)
    assert reasons(items) == ["bomb"]
    assert len(found(items)) < 30


def source(paths: list[str], limits: Limits) -> WarcSource:
    return WarcSource(kind="warc", name="web", paths=paths, allow_private=ALLOWED, limits=limits)


def test_paths_may_be_files_folders_patterns_and_urls(put, tmp_path: Path, limits: Limits):
    for name in ("b.warc.gz", "a.wet", "x.txt"):
        put(b"", name)
    files = [str(tmp_path / name) for name in ("a.wet", "b.warc.gz")]
    assert warc_files(source([str(tmp_path)], limits)) == files
    assert warc_files(source([str(tmp_path / "*.gz"), files[1]], limits)) == files[1:]
    assert warc_files(source(["https://example.org/x.warc"], limits))
    with pytest.raises(DataError, match=r"web\.paths: .*gone is no file"):
        warc_files(source([str(tmp_path / "gone")], limits))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("simplecache::http://127.0.0.1:9/a.warc.gz", "is a chain of file systems"),
        ("nosuch://bucket/a.warc.gz", "can't be listed: ValueError: Protocol not known"),
    ],
)
def test_what_no_store_can_be_asked_for_is_one_error(path: str, words: str, limits: Limits):
    with pytest.raises(DataError, match=words):
        warc_files(source([path], limits))


def test_archives_in_a_store_are_read_through_fsspec(limits: Limits):
    store = fsspec.filesystem("memory")
    data = archive(*map(response, range(5)), packed=".gz")
    for name in ("2024/a.warc.gz", "2024/b.warc.gz", "2024/x.txt"):
        store.pipe(f"/crawl/{name}", data)
    files = warc_files(source(["memory://crawl/2024/*.warc.gz"], limits))
    assert len(files) == 2
    assert warc_files(source(["memory://crawl/2024"], limits)) == files
    items = list(read_archive("web", files[0], limits, [], 0, 1))
    assert len(found(items)) == 5
    later = list(read_archive("web", files[0], limits, [], items[2].position, 1))
    assert found(later) == found(items)[3:]


def test_a_crawl_is_read_by_its_id_over_a_connection_that_breaks(server: Server, limits: Limits):
    names = [f"crawl-data/CC-MAIN-2024-10/segments/1/warc/{n}.warc.gz" for n in range(10)]
    listing = "crawl-data/CC-MAIN-2024-10/warc.paths.gz"
    server.files[listing] = gzip.compress("\n".join(names).encode())
    server.files |= {
        name: archive(*(response(n * 10 + k) for k in range(10)), packed=".gz")
        for n, name in enumerate(names)
    }
    crawl = CommonCrawlSource(
        kind="common_crawl",
        name="cc",
        crawl="CC-MAIN-2024-10",
        archive="warc",
        max_files=3,
        server=server.url("").rstrip("/"),
        allow_private=ALLOWED,
        limits=limits,
    )
    files = crawl_files(crawl)
    assert len(files) == 3
    assert set(files) < {server.url(name) for name in names}
    assert crawl_files(crawl.model_copy(update={"max_files": 0})) == [server.url(n) for n in names]
    server.faults.extend(["cut", 503])
    items = list(read_archive("cc", files[0], limits, ALLOWED, 0, 1))
    assert len(found(items)) == 10
    later = list(read_archive("cc", files[0], limits, ALLOWED, items[6].position, 1))
    assert [row["id"] for row in found(later)] == [row["id"] for row in found(items)][7:]
    gone = list(read_archive("cc", server.url("gone.warc.gz"), limits, ALLOWED, 0, 1))
    assert reasons(gone) == ["unreadable"]
    with pytest.raises(DataError, match=r"CC-MAIN-2025-99/warc\.paths\.gz can't be read"):
        crawl_files(crawl.model_copy(update={"crawl": "CC-MAIN-2025-99"}))


@real
def test_a_real_crawl_is_read_whole(limits: Limits):
    items = read(SHARED / "clueweb_sample.warc.gz", limits)
    pages = read(SHARED / "pages.warc.gz", limits)
    assert reasons(pages) == []
    assert {row["url"] for row in found(pages)} == set(
        json.loads((SHARED / "gold.json").read_text())
    )
    assert len(found(items)) > 10
    assert all("\ufffd" not in row["content"][:500] for row in found(items))
