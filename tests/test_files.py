import errno
import os
from pathlib import Path

import pytest

from llm.errors import DataError
from llm.files import (
    fingerprint,
    is_disk_full,
    read_json,
    read_jsonl,
    read_text,
    write_csv,
    write_dir,
    write_json,
    write_jsonl,
    write_text,
)


def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    with write_dir(tmp_path / "out") as folder:
        (folder / "a").write_text("good")
    with pytest.raises(FileNotFoundError), write_dir(tmp_path / "out") as folder:
        (folder / "none" / "a").write_text("half")
    assert (tmp_path / "out" / "a").read_text() == "good"
    assert os.listdir(tmp_path) == ["out"]


def test_a_new_folder_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with write_dir(tmp_path / "out") as folder:
            (folder / name).write_text(name)
    assert os.listdir(tmp_path / "out") == ["b"]


def test_a_linked_cache_file_is_never_written_into(tmp_path: Path) -> None:
    write_text(tmp_path / "cache", "cached")
    os.link(tmp_path / "cache", tmp_path / "out")
    write_text(tmp_path / "out", "new")
    assert (tmp_path / "cache").read_text() == "cached"


def test_json_and_jsonl_read_back(tmp_path: Path) -> None:
    rows = [{"text": "line\u2028separator", "n": 1}, {"text": "漢字"}]
    assert write_jsonl(tmp_path / "rows.jsonl", rows) == 2
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows
    write_json(tmp_path / "value.json", {"b": 1, "a": [2]})
    assert list(read_json(tmp_path / "value.json")) == ["b", "a"]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", float("nan"))
    assert read_json(tmp_path / "value.json") == {"b": 1, "a": [2]}


def test_a_table_has_a_blank_where_a_row_has_no_value(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", [{"step": 1, "a": 2.5}, {"step": 2, "b": 3}])
    assert (tmp_path / "t.csv").read_text() == "step,a,b\n1,2.5,\n2,,3\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\nnot json\n', r"f\.jsonl:2: not JSON"),
        (b"[1]\n", r"f\.jsonl:1: a row must be an object, not list"),
        (b'{"txt": "a"}\n', r"f\.jsonl:1: no field 'text'; the row has txt"),
        (b'{"text": "caf\xe9"}\n', r"f\.jsonl is not UTF-8: byte 0xe9 at offset 13"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "f.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(tmp_path / "f.jsonl", ("text",)))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt does not exist"):
        read_text(tmp_path / "none.txt")


def test_a_fingerprint_sees_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "a").write_text("1")
    first = fingerprint(folder)
    assert fingerprint(folder) == first
    (folder / "a").rename(folder / "b")
    renamed = fingerprint(folder)
    (folder / "b").write_text("2")
    assert len({first, renamed, fingerprint(folder)}) == 3


def test_a_full_disk_is_known_by_its_cause_in_any_librarys_words() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    wrapped = RuntimeError("unexpected pos 704 vs 598")
    wrapped.__context__ = full
    assert is_disk_full(full)
    assert is_disk_full(wrapped)
    assert is_disk_full(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not is_disk_full(OSError(errno.EACCES, "denied"))
    assert not is_disk_full(RuntimeError("shapes differ"))
