"""Harvesting docstrings from source files."""

import json
from pathlib import Path

import pytest

from llm.config.corpus import PythonDocsSource
from llm.corpus.documents import Row
from llm.corpus.sources.items import Found, Skipped
from llm.corpus.sources.python_docs import PythonFile, batches, python_files, read_python_files
from llm.errors import DataError
from tests.corpus.sources.conftest import LIMITS


def read(files: list[PythonFile]) -> list[Row]:
    return [item.row for item in read_python_files(files, LIMITS) if isinstance(item, Found)]


CODE = '''"""The module."""
import sys

class Base(dict, metaclass=type):
    """A base.

        Indented more.
    """
    def __init__(self, a: int, /, b: str = "x", *args: int, c=None, **kwargs) -> None:
        """Make one."""

    @property
    def size(self):
        """Get the size."""

    @size.setter
    def size(self, value):
        """Set the size."""

    def _hidden(self):
        """Not this."""

    class Inner:
        """Within."""
        async def go(self):
            """Run."""

if sys.platform == "win32":
    def sep():
        """On Windows."""
else:
    def sep():
        """Elsewhere."""

try:
    pass
except ImportError:
    def fallback():
        """In a handler."""

def outer():
    "Outer."
    def inner():
        """Not this either."""

def undocumented(): pass
def blank():
    """  """
def odd():
    """A \\ud800 surrogate."""
'''


def package(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def source(*packages: str, stdlib: bool = False) -> PythonDocsSource:
    return PythonDocsSource(
        kind="python_docs", name="docs", stdlib=stdlib, packages=list(packages), limits=LIMITS
    )


def test_what_is_documented_public_and_outside_functions_is_harvested(tmp_path: Path):
    package(tmp_path, {"m.py": CODE})
    found = read([PythonFile(tmp_path / "m.py", "pack.m", "docs")])
    rows = {row["url"].removeprefix("python:pack.m"): row for row in found}
    assert list(rows) == [
        "",
        "#Base",
        "#Base.__init__",
        "#Base.size",
        "#Base.size~2",
        "#Base.Inner",
        "#Base.Inner.go",
        "#sep",
        "#sep~2",
        "#fallback",
        "#outer",
        "#odd",
    ]
    assert len({row["id"] for row in found}) == len(rows)
    assert rows[""]["content"] == "module pack.m\n\nThe module."
    assert rows["#Base"]["content"] == "class pack.m.Base(dict)\n\nA base.\n\nIndented more."
    heading = rows["#Base.__init__"]["content"].split("\n")[0]
    assert heading == "pack.m.Base.__init__(self, a, /, b='x', *args, c=None, **kwargs)"
    assert rows["#odd"]["content"].endswith("A \ufffd surrogate.")


def test_meta_says_what_is_documented(tmp_path: Path):
    package(tmp_path, {"m.py": CODE})
    rows = read([PythonFile(tmp_path / "m.py", "pack.m", "docs")])
    metas = {row["url"].removeprefix("python:pack.m"): json.loads(row["meta"]) for row in rows}
    assert metas["#Base"] == {
        "doc": "A base.\n\nIndented more.",
        "kind": "class",
        "module": "pack.m",
        "qualname": "Base",
        "signature": "(a, /, b='x', *args, c=None, **kwargs)",
        "top": "pack.m:Base",
    }
    assert [metas[url]["kind"] for url in ("", "#sep", "#Base.size")] == [
        "module",
        "function",
        "method",
    ]
    assert [metas[url]["top"] for url in ("", "#Base.Inner.go")] == ["pack.m:", "pack.m:Base"]
    assert metas["#sep"]["signature"] == "()"
    assert metas["#Base.Inner"]["signature"] == ""


@pytest.mark.parametrize(
    ("arguments", "signature"),
    [
        ("self", "()"),
        ("self, a=1", "(a=1)"),
        ("self, /, a, b=2", "(a, b=2)"),
        ("self=None, a=1", "(a=1)"),
        ("self, *, a", "(*, a)"),
        ("*args", "(*args)"),
    ],
)
def test_a_class_is_called_as_its_init_without_self(tmp_path: Path, arguments: str, signature: str):
    code = f'class C:\n  """Doc."""\n  def __init__({arguments}): pass\n'
    package(tmp_path, {"m.py": code})
    (row,) = read([PythonFile(tmp_path / "m.py", "m", "docs")])
    assert json.loads(row["meta"])["signature"] == signature


def test_a_file_beyond_the_limit_is_skipped_and_not_parsed(tmp_path: Path):
    package(tmp_path, {"a.py": CODE, "b.py": '"""Doc."""' + "#" * 99})
    files = [PythonFile(tmp_path / f"{name}.py", name, "docs") for name in "ab"]
    limits = LIMITS.model_copy(update={"max_record_bytes": 109})
    (skipped, found) = read_python_files(files, limits)
    assert isinstance(skipped, Skipped)
    assert (skipped.url, skipped.reason) == ("python:a", "too_long")
    assert isinstance(found, Found)
    assert found.row["url"] == "python:b"


def test_files_that_do_not_parse_are_counted(tmp_path: Path):
    package(
        tmp_path,
        {"a.py": "def (", "b.py": b"x = '\xff'", "c.py": b"\x00", "d.py": '"""Good."""'},
    )
    files = [PythonFile(tmp_path / f"{name}.py", name, "docs") for name in "abcd"]
    items = list(read_python_files(files, LIMITS))
    assert [isinstance(item, Found) for item in items].count(True) == 1
    assert [item.reason for item in items if isinstance(item, Skipped)] == ["not_python"] * 3


def test_test_code_is_left_out_and_the_order_is_that_of_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ["__init__", "b", "a/__init__", "a/z", "tests/x", "a/test/y", "test_q", "conftest"]
    package(tmp_path / "zpack", {f"{name}.py": "" for name in names})
    package(tmp_path, {"zsingle.py": ""})
    monkeypatch.syspath_prepend(tmp_path)
    modules = [file.module for file in python_files(source("zsingle", "zpack"))]
    assert modules == ["zsingle", "zpack", "zpack.a", "zpack.a.z", "zpack.b"]


def test_the_standard_library_holds_no_installed_package():
    modules = [file.module for file in python_files(source(stdlib=True))]
    assert {"pathlib", "json", "email.message"} <= set(modules)
    assert not any(module.startswith(("site-packages", "test.", "numpy")) for module in modules)


@pytest.mark.parametrize(
    ("name", "words"),
    [("no_such_package", "is not installed"), ("_socket", "has no Python source")],
)
def test_an_unusable_package_is_named(name: str, words: str):
    with pytest.raises(DataError, match=f"docs lists package '{name}', which {words}"):
        python_files(source(name))


def test_batches_keep_every_file_in_order(tmp_path: Path):
    package(tmp_path, {f"{n}.py": "#" * 300_000 for n in range(9)})
    files = [PythonFile(tmp_path / f"{n}.py", str(n), "docs") for n in range(9)]
    split = batches(files)
    assert [file for batch in split for file in batch] == files
    assert [len(batch) for batch in split] == [4, 4, 1]
