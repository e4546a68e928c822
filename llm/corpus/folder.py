"""Text, Markdown and JSONL files of a folder, recursively: one document per file or row."""

import json
from collections.abc import Iterator
from pathlib import Path

from llm.config.corpus import FolderSource
from llm.corpus.documents import Row, document_id, dump_meta, valid_unicode
from llm.errors import DataError
from llm.files import read_text

MIMES = {".txt": "text/plain", ".md": "text/markdown"}
ROWS = ".jsonl"


def folder_files(source: FolderSource) -> list[Path]:
    """The folder's files in an order of names alone; DataError when there are none."""
    root = Path(source.path)
    if not root.is_dir():
        raise DataError(
            f"gather.sources: {source.name}.path={source.path} is not a folder; correct the path"
        )
    kinds = (*MIMES, ROWS)
    files = [path for path in root.rglob("*") if path.suffix in kinds and path.is_file()]
    if not files:
        raise DataError(
            f"gather.sources: {source.name}.path={source.path} holds no {', '.join(kinds)} file; "
            "put the text there or correct the path"
        )
    return sorted(files, key=lambda path: path.relative_to(root).parts)


def folder_documents(source: FolderSource) -> Iterator[Row]:
    """The documents of a folder; DataError names the file and the byte or line that is wrong."""
    root = Path(source.path)
    for path in folder_files(source):
        file = path.relative_to(root).as_posix()
        if path.suffix == ROWS:
            for number, text in _rows(path, source.text_field):
                meta = {"file": file, "row": number}
                yield _document(source, f"file:{file}#{number}", "text/plain", text, meta)
        else:
            text = read_text(path)
            yield _document(source, f"file:{file}", MIMES[path.suffix], text, {"file": file})


def _document(
    source: FolderSource, url: str, mime: str, content: str, meta: dict[str, str | int]
) -> Row:
    return {
        "id": document_id(source.name, url),
        "source": source.name,
        "url": url,
        "mime": mime,
        "content": content,
        "meta": dump_meta(meta),
    }


def _rows(path: Path, field: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each row of a JSONL file."""
    for number, line in enumerate(read_text(path).split("\n"), start=1):  # JSON may hold U+2028
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict) or not isinstance(row.get(field), str):
            fields = ", ".join(row) if isinstance(row, dict) else type(row).__name__
            raise DataError(
                f"{path}:{number}: no text in field {field!r}; the row has {fields or 'nothing'}; "
                "name the field that holds the text in `text_field`"
            )
        yield number, valid_unicode(row[field])
