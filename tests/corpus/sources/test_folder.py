"""Documents of a folder: what is read, and what is said of what can't be."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.corpus import FolderSource, Limits
from llm.corpus.documents import GATHERED, text_schema, write_rows
from llm.corpus.sources.folder import folder_files, read_folder_file
from llm.corpus.sources.items import Found, Item, Skipped
from llm.errors import DataError


def source(path: Path, limits: Limits) -> FolderSource:
    return FolderSource(
        kind="folder", name="notes", path=str(path), text_field="text", limits=limits
    )


@pytest.fixture
def read(tmp_path: Path, limits: Limits):
    """The items of one file of the given content."""

    def items(name: str, data: bytes, start: int = 0, **changed: int) -> list[Item]:
        (tmp_path / name).write_bytes(data)
        folder = source(tmp_path, limits.model_copy(update=changed))
        return list(read_folder_file(folder, name, start))

    return items


def texts(items: list[Item]) -> list[str]:
    return [item.row["content"] for item in items if isinstance(item, Found)]


def reasons(items: list[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Skipped)]


def rows_of(folder: FolderSource) -> Iterator[dict[str, str]]:
    for file in folder_files(folder):
        for item in read_folder_file(folder, file, 0):
            assert isinstance(item, Found), item
            yield item.row


def test_files_and_rows_become_documents_in_order_of_the_names(tmp_path: Path, limits: Limits):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.md").write_text("# Märchen")
    (tmp_path / "a.txt").write_text("A")
    (tmp_path / "c.jsonl").write_text('{"text": "one\\u2028"}\n\n{"text": "two\\ud800"}\n')
    (tmp_path / "d.HTML").write_text("<p>four")
    (tmp_path / ".hidden.txt").write_text("no")
    rows = list(rows_of(source(tmp_path, limits)))
    assert [row["content"] for row in rows] == [
        "A",
        "# Märchen",
        "one\u2028",
        "two\ufffd",
        "<p>four",
    ]
    assert [row["mime"] for row in rows] == [
        "text/plain",
        "text/markdown",
        "text/plain",
        "text/plain",
        "text/html",
    ]
    assert [row["url"] for row in rows] == [
        "file:a.txt",
        "file:b/x.md",
        "file:c.jsonl#1",
        "file:c.jsonl#3",
        "file:d.HTML",
    ]
    assert json.loads(rows[3]["meta"]) == {"file": "c.jsonl", "row": 3}
    assert len({row["id"] for row in rows}) == 5


ROWS = [{"text": "one, \u201cä\u201d\n", "n": 1}, {"text": "two", "n": 2}]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = 'n,text\r\n1,"one, \u201cä\u201d\n"\r\n2,two\r\n'.encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.jsonl", JSONL),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.csv", CSV),
        ("a.csv", b"\xef\xbb\xbf" + CSV.replace(b"n,text", b"text,n").replace(b'1,"', b'"')
            .replace(b'\n"\r', b'\n",1\r').replace(b"2,two", b"two,2")),
        ("a.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("a.jsonl.gz", b"".join(gzip.compress(line + b"\n") for line in JSONL.splitlines())),
        ("a.csv.zst", pa.compress(CSV, "zstd", asbytes=True)),
    ],
)  # fmt: skip
def test_every_form_of_the_same_rows_gives_the_same_texts(read, name: str, data: bytes):
    items = read(name, data)
    assert texts(items) == [row["text"] for row in ROWS]
    assert texts(read(name, data, start=1)) == ["two"]


def test_parquet_columns_are_read_in_pieces(tmp_path: Path, read):
    values = [f"text {number}" for number in range(1000)] + [None, "y" * 2_000_000]
    pq.write_table(pa.table({"text": values, "n": range(1002)}), tmp_path / "made")
    items = read("a.parquet", (tmp_path / "made").read_bytes())
    assert texts(items) == values[:1000]
    assert reasons(items) == ["no_text", "too_long"]
    assert texts(read("a.parquet", (tmp_path / "made").read_bytes(), start=998)) == values[998:1000]


def test_whole_files_may_be_compressed(read):
    assert texts(read("a.txt.gz", gzip.compress(b"text"))) == ["text"]
    (item,) = read("a.html.zst", pa.compress(b"<p>x", "zstd", asbytes=True))
    assert isinstance(item, Found)
    assert item.row["mime"] == "text/html"


def test_a_folder_that_is_missing_or_empty_is_one_error(tmp_path: Path, limits: Limits):
    with pytest.raises(DataError, match=r"notes\.path=.*gone is not a folder"):
        folder_files(source(tmp_path / "gone", limits))
    (tmp_path / "x.png").write_text("")
    with pytest.raises(DataError, match=r"notes\.path=.* holds no \.txt, \.md, .*parquet .* file"):
        folder_files(source(tmp_path, limits))


def test_links_are_followed_but_not_in_circles(tmp_path: Path, limits: Limits):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("A")
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real")
    (tmp_path / "named").mkdir()
    (tmp_path / "named" / "linked").symlink_to(tmp_path / "real")
    assert folder_files(source(tmp_path / "named", limits)) == ["linked/a.txt"]


def test_text_of_another_encoding_is_recognised(read):
    german = "Die Größe der Bäume überrascht manche Gäste, die früher hier gewesen waren. " * 5
    for encoding in ("latin-1", "utf-16", "utf-8-sig"):
        (item,) = read("a.txt", german.encode(encoding))
        assert isinstance(item, Found)
        assert item.row["content"] == german, encoding
        assert json.loads(item.row["meta"]).get("encoding", "utf-8") in (
            encoding,
            "cp1252",
            "utf-8",
        )
    page = '<meta charset="windows-1251"><p>Съешь же ещё этих мягких французских булок'
    assert texts(read("a.html", page.encode("cp1251"))) == [page]


# What is wrong with a file is counted, and costs only what is wrong


def test_zero_bytes_are_counted(read):
    assert reasons(read("a.txt", b"")) == ["empty"]
    assert reasons(read("a.jsonl", b"")) == ["empty"]
    assert reasons(read("a.csv.gz", gzip.compress(b"text\n"))) == ["empty"]
    assert reasons(read("a.txt", b"\0" * 5000)) == ["encoding"]
    assert reasons(read("a.txt.gz", b"")) == ["empty"]
    assert reasons(read("a.parquet", b"")) == ["damaged"]


def test_a_file_of_an_unknown_kind_is_counted(tmp_path: Path, read, limits: Limits):
    assert reasons(read("a.docx", b"PK")) == ["kind"]
    with pytest.raises(DataError, match="holds no"):
        folder_files(source(tmp_path, limits))
    (tmp_path / "a.txt").write_text("A text.")
    assert folder_files(source(tmp_path, limits)) == ["a.docx", "a.txt"]


def test_a_name_that_is_no_utf_8_is_no_obstacle(tmp_path: Path, limits: Limits):
    name = os.fsdecode(b"sch\xf6n.txt")
    (tmp_path / name).write_text("A text.")
    (row,) = rows_of(source(tmp_path, limits))
    assert json.loads(row["meta"])["file"] == "sch\ufffdn.txt"
    write_rows(tmp_path / "out", [row], text_schema(*GATHERED))


def test_a_truncated_gzip_gives_its_rows_up_to_the_cut(read):
    lines = [json.dumps({"text": f"row {number} {number * 7919 % 1000}"}) for number in range(5000)]
    packed = gzip.compress("\n".join(lines).encode())
    items = read("a.jsonl.gz", packed[: len(packed) // 2])
    found = texts(items)
    assert 0 < len(found) < 5000
    assert found == [json.loads(line)["text"] for line in lines[: len(found)]]
    assert reasons(items) == ["damaged"]
    assert f"after row {len(found)}: Truncated" in items[-1].detail


def test_what_is_not_compressed_as_named_is_counted(read):
    assert reasons(read("a.txt.gz", b"plain text")) == ["damaged"]
    assert reasons(read("a.txt.zst", b"plain text")) == ["damaged"]


def test_a_line_of_100_mb_is_skipped_without_being_held(tmp_path: Path, read):
    import tracemalloc

    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    items = list(read_folder_file(source(tmp_path, read_limits()), "long.jsonl", 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert texts(items) == ["before", "after"]
    assert reasons(items) == ["too_long"]
    assert peak < 10_000_000


def read_limits() -> Limits:
    return Limits(max_documents=0, max_record_bytes=1_000_000, max_inflation=50)


@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.json", "a.csv", "a.jsonl"])
def test_no_kind_of_file_takes_what_is_too_long(read, name: str):
    data = b'text\n"' + b"long " * 300 + b'"\n'
    assert set(reasons(read(name, data, max_record_bytes=1000))) & {"too_long"}
    assert texts(read(name, data, max_record_bytes=1000)) == []


def test_a_bomb_is_left_at_the_limit(read):
    bomb = pa.compress(b"\0" * 100_000_000, "zstd", asbytes=True)
    (item,) = read("a.txt.zst", bomb, max_record_bytes=500_000_000)
    assert item.reason == "bomb"
    assert "max_inflation=50" in item.detail
    rows = gzip.compress((json.dumps({"text": "x" * 1000}) + "\n").encode() * 40_000)
    items = read("a.jsonl.gz", rows)
    assert reasons(items) == ["bomb"]
    assert 10_000 < len(texts(items)) < 40_000


def test_invalid_utf_8_is_counted_row_by_row(read):
    items = read("a.jsonl", b'{"text": "ok"}\n{"text": "\xff\xfe"}\n{"text": "also ok"}\n')
    assert texts(items) == ["ok", "also ok"]
    assert reasons(items) == ["encoding"]
    assert items[1].url == "file:a.jsonl#2"
    items = read("a.csv", b"text,n\nok,1\nb\xe4d,2\nfine,3\n")
    assert texts(items) == ["ok", "fine"]
    assert reasons(items) == ["encoding"]


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        ('{"body": "x"}', "no_text", "no text in field 'text'; the row has body"),
        ('{"text": 3}', "no_text", "no text in field 'text'"),
        ("[1]", "no_text", "the row has list"),
        ("{", "not_json", "Expecting"),
        ("[" * 100_000, "not_json", "recursion"),
        ("1" * 10_000, "not_json", "digits"),
    ],
)
def test_a_broken_row_costs_itself_alone(read, line: str, reason: str, words: str):
    items = read("a.jsonl", f'{{"text": "x"}}\n{line}\n{{"text": "y"}}'.encode())
    assert texts(items) == ["x", "y"]
    assert (items[1].reason, items[1].url) == (reason, "file:a.jsonl#2")
    assert words in items[1].detail


def test_a_csv_or_parquet_without_the_column_says_so(tmp_path: Path, read):
    (item,) = read("a.csv", b"body\nx\n")
    assert "'text'; the row has body" in item.detail
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "made")
    (item,) = read("a.parquet", (tmp_path / "made").read_bytes())
    assert "no column 'text'; it has body" in item.detail


NAMES = ["a.txt", "a.html", "a.json", "a.jsonl", "a.csv", "a.jsonl.gz", "a.csv.zst", "a.parquet"]


@given(st.sampled_from(NAMES), st.binary(max_size=200))
def test_no_bytes_at_all_raise(tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes):
    folder = tmp_path_factory.mktemp("any")
    (folder / name).write_bytes(data)
    for item in read_folder_file(source(folder, read_limits()), name, 0):
        assert isinstance(item, Found | Skipped)
