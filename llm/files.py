"""Files are written once: a temporary name beside the target, then `os.replace`.

A killed process leaves no half-written output, and a DVC-linked cache file is never
written into.
"""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llm.errors import DataError


@contextmanager
def write_dir(path: Path) -> Iterator[Path]:
    """A new folder that becomes `path`, replacing it, when the body ends without an error."""
    partial = _partial(path)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if path.is_dir():
        shutil.rmtree(path)
    os.replace(partial, path)


@contextmanager
def write_file(path: Path) -> Iterator[Path]:
    """A name to write to; it becomes `path` when the body ends without an error."""
    partial = _partial(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text at once or not at all."""
    with write_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON at once or not at all; keys keep their order, NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one JSON object per line; returns the number of rows."""
    count = 0
    with write_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table for `dvc plots`; the header is the union of the rows' keys, in order of appearance."""
    fields = list(dict.fromkeys(key for row in rows for key in row))
    with write_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_json(path: Path) -> Any:
    """The value in a JSON file; DataError when it is missing or not JSON."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; DataError says which byte is wrong."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; `dvc repro` makes what a stage reads") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}; "
            "convert it, e.g. `iconv -f latin1 -t utf-8`"
        ) from None


def read_jsonl(path: Path, required: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; DataError names file and line of a bad row or missing field."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # JSON may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: a row must be an object, not {type(row).__name__}")
        for field in required:
            if field not in row:
                raise DataError(
                    f"{path}:{number}: no field {field!r}; the row has {', '.join(row) or 'none'}"
                )
        yield row


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a full disk or quota, in any library's words."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def fingerprint(path: Path) -> str:
    """sha256 of a file, or of a folder's file names and contents in sorted order."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if "__pycache__" in file.parts:
            continue
        digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _partial(path: Path) -> Path:
    """Beside the target, so that the rename stays on one file system."""
    return path.with_name(f".{path.name}.partial")
