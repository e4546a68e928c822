"""Documents of a folder, and what is said of a bad one."""

import json
from pathlib import Path

import pytest

from llm.config.corpus import FolderSource
from llm.corpus.folder import folder_documents
from llm.errors import DataError


def source(path: Path) -> FolderSource:
    return FolderSource(kind="folder", name="notes", path=str(path), text_field="text")


def test_files_and_rows_become_documents_in_order_of_the_names(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.md").write_text("# Märchen")
    (tmp_path / "a.txt").write_text("A")
    (tmp_path / "c.jsonl").write_text('{"text": "one\\u2028"}\n\n{"text": "two\\ud800"}\n')
    (tmp_path / "ignored.csv").write_text("no")
    rows = list(folder_documents(source(tmp_path)))
    assert [row["content"] for row in rows] == ["A", "# Märchen", "one\u2028", "two\ufffd"]
    assert [row["mime"] for row in rows] == ["text/plain", "text/markdown"] + ["text/plain"] * 2
    assert [row["url"] for row in rows] == [
        "file:a.txt",
        "file:b/x.md",
        "file:c.jsonl#1",
        "file:c.jsonl#3",
    ]
    assert json.loads(rows[3]["meta"]) == {"file": "c.jsonl", "row": 3}
    assert len({row["id"] for row in rows}) == 4


def test_a_folder_that_is_missing_or_empty_is_one_error(tmp_path: Path):
    with pytest.raises(DataError, match=r"notes\.path=.*gone is not a folder"):
        list(folder_documents(source(tmp_path / "gone")))
    with pytest.raises(DataError, match=r"notes\.path=.* holds no \.txt, \.md, \.jsonl file"):
        list(folder_documents(source(tmp_path)))


def test_invalid_utf_8_is_named_by_file_and_byte(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"ok \xff")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8: byte 0xff at offset 3"):
        list(folder_documents(source(tmp_path)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"body": "x"}', "no text in field 'text'; the row has body"),
        ('{"text": 3}', "no text in field 'text'"),
        ("[1]", "the row has list"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str, words: str):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' + line)
    with pytest.raises(DataError, match=r"a\.jsonl:2: ") as error:
        list(folder_documents(source(tmp_path)))
    assert words in str(error.value)
