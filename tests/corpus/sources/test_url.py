"""Downloads: pinned, and gone on with."""

import hashlib
from pathlib import Path

import pytest

from llm.config.corpus import File, Limits, UrlSource
from llm.corpus.sources.items import Found
from llm.corpus.sources.url import download, read_url, url_files
from llm.errors import DataError
from tests.corpus.sources.server import ALLOWED, Server
from tests.corpus.sources.test_warc import archive, response

DATA = "".join(f'{{"text": "row {n}"}}\n' for n in range(20_000)).encode()


def source(server: Server, limits: Limits, name: str, data: bytes) -> UrlSource:
    file = File(url=server.url(name), sha256=hashlib.sha256(data).hexdigest())
    return UrlSource(
        kind="url",
        name="web",
        files=[file],
        text_field="text",
        allow_private=ALLOWED,
        limits=limits,
    )


def test_a_file_is_fetched_over_a_broken_connection_and_read(
    server: Server, limits: Limits, tmp_path: Path
):
    web = source(server, limits, "dir/a%20b.jsonl?x=1", DATA)
    server.files["dir/a%20b.jsonl?x=1"] = DATA
    server.faults.extend(["cut", 502])
    (url,) = url_files(web)
    items = list(read_url(web, url, tmp_path, 1))
    assert [item.row["content"] for item in items if isinstance(item, Found)] == [
        f"row {n}" for n in range(20_000)
    ]
    assert items[0].row["url"] == f"{url}#1"
    assert list(tmp_path.iterdir()) == []


def test_a_download_goes_on_where_a_former_process_stopped(
    server: Server, limits: Limits, tmp_path: Path
):
    web = source(server, limits, "a.jsonl", DATA)
    server.files["a.jsonl"] = DATA
    (file,) = web.files
    (tmp_path / f"{file.sha256}.part").write_bytes(DATA[:1000])
    download(file, ALLOWED, tmp_path / file.sha256)
    assert server.requests == [("a.jsonl", "bytes=1000-")]
    assert (tmp_path / file.sha256).read_bytes() == DATA


def test_another_file_than_the_pinned_one_is_refused(
    server: Server, limits: Limits, tmp_path: Path
):
    web = source(server, limits, "a.jsonl", DATA)
    server.files["a.jsonl"] = DATA + b"!"
    with pytest.raises(DataError, match=r"a\.jsonl has sha256 [0-9a-f]{64}, not [0-9a-f]{64}"):
        list(read_url(web, web.files[0].url, tmp_path, 1))
    assert list(tmp_path.iterdir()) == []
    server.files.clear()
    with pytest.raises(DataError, match=r"a\.jsonl is not there \(status 404\)"):
        list(read_url(web, web.files[0].url, tmp_path, 1))


def test_archives_and_unknown_kinds(server: Server, limits: Limits, tmp_path: Path):
    data = archive(*map(response, range(3)), packed=".gz")
    server.files["x.warc.gz"] = data
    web = source(server, limits, "x.warc.gz", data)
    assert len(list(read_url(web, url_files(web)[0], tmp_path, 1))) == 3
    with pytest.raises(DataError, match=r"x\.pdf ends in no known kind"):
        url_files(source(server, limits, "x.pdf", data))
