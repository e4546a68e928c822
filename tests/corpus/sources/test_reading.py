"""Parts: stopped anywhere and run again, they give what an undisturbed run gives."""

import gzip
import hashlib
import json
import random
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFile

from llm.config.corpus import File, FolderSource, Limits, UrlSource, WarcSource
from llm.corpus.sources import reading
from llm.corpus.sources.reading import Gathered, Part, gather_part, list_parts
from llm.errors import DataError
from llm.files import fingerprint
from tests.corpus.sources.server import ALLOWED, Server
from tests.corpus.sources.test_warc import archive, response

ROWS = [{"text": f"row {number} " * 5} if number % 7 else {"no": "text"} for number in range(200)]


def rows(gathered: Gathered) -> list[dict[str, str]]:
    return [row for table in gathered.tables() for row in table.to_pylist()]


@pytest.fixture
def folder(tmp_path: Path, limits: Limits) -> FolderSource:
    (tmp_path / "notes").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    (tmp_path / "notes" / "a.jsonl").write_text(lines)
    return FolderSource(
        kind="folder", name="notes", path=str(tmp_path / "notes"), text_field="text", limits=limits
    )


def parts(source: FolderSource | UrlSource | WarcSource, work: Path) -> list[Part]:
    return list_parts(source, work, 500, 1)


@pytest.mark.parametrize("stop", [0, 1, 60, 199])
def test_a_part_stopped_at_any_row_goes_on_to_the_same_end(
    folder: FolderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
):
    (part,) = parts(folder, tmp_path / "whole")
    whole = gather_part(part)
    (part,) = parts(folder, tmp_path / "stopped")
    read, starts = reading.read_folder_file, []

    def broken(source: FolderSource, file: str, start: int):
        starts.append(start)
        for item in read(source, file, start):
            if len(starts) == 1 and item.position > stop:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(reading, "read_folder_file", broken)
    with pytest.raises(KeyboardInterrupt):
        gather_part(part)
    again = gather_part(part)
    assert rows(again) == rows(whole)
    assert again.skipped == whole.skipped == {"no_text": 29}
    assert again.documents == 171
    assert (starts[1] > 0) == (stop > 20)
    assert gather_part(part) == again
    assert len(starts) == 2  # what is done is not read again
    assert fingerprint(part.folder) == fingerprint(parts(folder, tmp_path / "whole")[0].folder)


def test_a_file_that_changed_is_read_again(folder: FolderSource, tmp_path: Path):
    (part,) = parts(folder, tmp_path)
    gather_part(part)
    Path(folder.path, "a.jsonl").write_text('{"text": "new"}\n')
    (changed,) = parts(folder, tmp_path)
    assert changed.folder != part.folder
    assert [row["content"] for row in rows(gather_part(changed))] == ["new"]


def test_small_files_share_a_part_and_large_ones_do_not(
    folder: FolderSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for number in range(10):
        Path(folder.path, f"{number}.txt").write_text("x" * 100)
    monkeypatch.setattr(reading, "PART_BYTES", 300)
    listed = parts(folder, tmp_path)
    assert [len(part.names) for part in listed] == [3, 3, 3, 1, 1]
    assert sum(gather_part(part).documents for part in listed) == 10 + 171


def test_a_crawl_goes_on_where_the_connection_was_lost(
    server: Server, limits: Limits, tmp_path: Path
):
    noise = random.Random(0)
    pages = [noise.randbytes(50_000).hex().encode() for _ in range(40)]
    data = archive(*(response(n, page) for n, page in enumerate(pages)), packed=".gz")
    server.files["a.warc.gz"] = data
    source = WarcSource(
        kind="warc",
        name="web",
        paths=[server.url("a.warc.gz")],
        allow_private=ALLOWED,
        limits=limits,
    )
    whole = gather_part(parts(source, tmp_path / "whole")[0])
    assert whole.documents == 40
    (part,) = parts(source, tmp_path / "stopped")
    server.faults.extend(["cut", *[503] * 3])
    with pytest.raises(DataError, match="run it again later: it goes on"):
        gather_part(part)
    server.requests.clear()
    assert rows(gather_part(part)) == rows(whole)
    ((_, wanted),) = server.requests
    assert wanted
    assert int(wanted.removeprefix("bytes=").rstrip("-")) > len(data) // 4


def test_a_crawl_goes_on_where_a_store_was_lost(
    limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    noise = random.Random(0)
    data = archive(*(response(n, noise.randbytes(50_000).hex().encode()) for n in range(60)))
    fsspec.filesystem("memory").pipe("/lost/a.warc", data)
    url = "memory://lost/a.warc"
    source = WarcSource(kind="warc", name="web", paths=[url], allow_private=[], limits=limits)
    whole = gather_part(parts(source, tmp_path / "whole")[0])
    (part,) = parts(source, tmp_path / "stopped")
    read = MemoryFile.readinto

    def lost(self: MemoryFile, buffer: memoryview) -> int:
        if self.tell() > len(data) // 2:
            raise ConnectionResetError("by peer")
        return read(self, buffer)

    monkeypatch.setattr(MemoryFile, "readinto", lost, raising=False)
    with pytest.raises(DataError, match=r"ConnectionResetError: by peer.*run it again: it goes on"):
        gather_part(part)
    monkeypatch.setattr(MemoryFile, "readinto", read)
    again = gather_part(part)
    assert rows(again) == rows(whole)
    assert again.documents == 60


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.warc.gz", "a.warc"])
def test_a_download_stopped_while_it_is_read_goes_on_to_the_same_end(
    server: Server, limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    packed = archive(*map(response, range(40)), packed=".gz" if name.endswith(".gz") else "")
    data = gzip.compress(lines) if "jsonl" in name else packed
    server.files[name] = data
    source = UrlSource(
        kind="url",
        name="web",
        files=[File(url=server.url(name), sha256=hashlib.sha256(data).hexdigest())],
        text_field="text",
        allow_private=ALLOWED,
        limits=limits,
    )
    whole = gather_part(parts(source, tmp_path / "whole")[0])
    (part,) = parts(source, tmp_path / "stopped")
    write_json = reading.write_json

    def broken(path: Path, state: dict[str, object]) -> None:
        write_json(path, state)
        if state["chunks"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(reading, "write_json", broken)
    with pytest.raises(KeyboardInterrupt):
        gather_part(part)
    monkeypatch.setattr(reading, "write_json", write_json)
    again = gather_part(part)
    assert rows(again) == rows(whole)
    assert again.skipped == whole.skipped
    assert again.documents == whole.documents > 2


def test_an_archive_without_places_to_go_on_from_is_read_anew(
    limits: Limits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(gzip.compress(archive(*map(response, range(40)))))
    source = WarcSource(kind="warc", name="web", paths=[str(path)], allow_private=[], limits=limits)
    (part,) = parts(source, tmp_path / "work")
    part.folder.mkdir(parents=True)
    state = {"done": False, "chunks": 1, "position": 100, "documents": 3, "skipped": {}}
    (part.folder / "state.json").write_text(json.dumps(state))
    assert gather_part(part).documents == 40


def test_a_part_stops_at_the_limit_of_its_source(folder: FolderSource, tmp_path: Path):
    few = folder.limits.model_copy(update={"max_documents": 5})
    (part,) = parts(folder.model_copy(update={"limits": few}), tmp_path)
    assert gather_part(part).documents == 5
