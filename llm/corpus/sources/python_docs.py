"""Docstrings of Python sources, read by parsing and never by importing.

A document is a heading (`pathlib.Path.read_text(self, encoding=None, errors=None)`), a
blank line and the docstring. Modules, classes, and the functions in them count, also
below `if` and `try`; test code, names with a leading underscore and functions inside
functions do not. Private modules do: large packages keep their public API's text there.
"""

import ast
import gc
import importlib.util
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm.config.corpus import Limits, PythonDocsSource
from llm.corpus.documents import Row, document_id, dump_meta, valid_unicode
from llm.corpus.sources.items import Found, Item, Skipped
from llm.errors import DataError

SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
)
BATCH_BYTES = 1_000_000  # source code per unit of parallel work

Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = ast.If | ast.Try | ast.With


@dataclass(frozen=True)
class PythonFile:
    """One source file and the name that its module is imported by."""

    path: Path
    module: str
    source: str


def python_files(source: PythonDocsSource) -> list[PythonFile]:
    """The files of the standard library, then of each package, in an order of names alone.

    DataError when a package is not installed or has no Python source.
    """
    packages = [_package_root(source, name) for name in source.packages]
    files = []
    if source.stdlib:
        root = Path(sysconfig.get_paths()["stdlib"])
        files += _files_below(root, root, source.name)
    for package in packages:
        files += _files_below(package, package.parent, source.name)
    return files


def _package_root(source: PythonDocsSource, name: str) -> Path:
    """The folder of a package, or the file of a package that is one module."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise DataError(
            f"gather.sources: {source.name} lists package {name!r}, which is not installed; "
            "install it or remove it from `packages`"
        )
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None or not spec.origin.endswith(".py"):
        raise DataError(
            f"gather.sources: {source.name} lists package {name!r}, which has no Python source "
            f"({spec.origin}); remove it from `packages`"
        )
    return Path(spec.origin)


def _files_below(top: Path, root: Path, source: str) -> Iterator[PythonFile]:
    """The files of `top` outside test folders; modules are named from `root`."""
    paths = [top] if top.is_file() else _walk(top)
    named = sorted((path.relative_to(root).with_suffix("").parts, path) for path in paths)
    for parts, path in named:
        if not _is_test(parts[-1]):
            module = parts[:-1] if parts[-1] == "__init__" else parts
            yield PythonFile(path, ".".join(module), source)


def _walk(top: Path) -> Iterator[Path]:
    """The Python files below a folder, without entering folders that are skipped."""
    for folder, subfolders, names in os.walk(top):
        subfolders[:] = [name for name in subfolders if name not in SKIPPED_FOLDERS]
        yield from (Path(folder, name) for name in names if name.endswith(".py"))


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test") or name == "conftest"


def batches(files: list[PythonFile]) -> list[list[PythonFile]]:
    """Runs of files of about BATCH_BYTES, for a map over processes."""
    runs: list[list[PythonFile]] = []
    room = 0
    for file in files:
        if room <= 0:
            runs.append([])
            room = BATCH_BYTES
        runs[-1].append(file)
        room -= file.path.stat().st_size
    return runs


def read_python_files(files: Iterable[PythonFile], limits: Limits) -> Iterator[Item]:
    """The documents of some files; a file that does not parse or is too long is skipped.

    Without garbage collection: syntax trees have no cycles, and looking for some takes a
    third of the time.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield from _read(files, limits)
    finally:
        if collecting:
            gc.enable()


def _read(files: Iterable[PythonFile], limits: Limits) -> Iterator[Item]:
    for file in files:
        size = file.path.stat().st_size
        if size > limits.max_record_bytes:
            yield Skipped(f"python:{file.module}", "too_long", f"{size:,} bytes")
            continue
        try:
            with warnings.catch_warnings(action="ignore"):  # invalid escapes in old code
                tree = ast.parse(file.path.read_bytes())
        except (SyntaxError, ValueError, RecursionError) as error:  # ValueError: null bytes
            yield Skipped(f"python:{file.module}", "not_python", str(error))
            continue
        for row in _documents(tree, file):
            yield Found(row)


def _documents(tree: ast.Module, file: PythonFile) -> Iterator[Row]:
    seen: dict[str, int] = {}
    for node, names in _nodes(tree, ()):
        doc = valid_unicode(ast.get_docstring(node) or "").strip()
        if not doc:
            continue
        qualname = ".".join(names)
        # A name may be defined again: an overload, a property's setter, the branch of an `if`.
        seen[qualname] = seen.get(qualname, 0) + 1
        again = f"~{seen[qualname]}" if seen[qualname] > 1 else ""
        url = f"python:{file.module}" + (f"#{qualname}" if qualname else "") + again
        signature = _signature(node)
        yield {
            "id": document_id(file.source, url),
            "source": file.source,
            "url": url,
            "mime": "text/plain",
            "content": f"{_heading(node, file.module, qualname, signature)}\n\n{doc}",
            "meta": dump_meta(
                {
                    "kind": _kind(node, names),
                    "module": file.module,
                    "qualname": qualname,
                    "top": f"{file.module}:{names[0] if names else ''}",
                    "signature": signature,
                    "doc": doc,
                }
            ),
        }


Documented = ast.Module | ast.ClassDef | Function


def _nodes(
    node: ast.Module | ast.ClassDef, names: tuple[str, ...]
) -> Iterator[tuple[Documented, tuple[str, ...]]]:
    """A module or class and the public classes and functions in it, in order of appearance."""
    yield node, names
    for child in _statements(node.body):
        if isinstance(child, ast.ClassDef) and _is_public(child.name):
            yield from _nodes(child, (*names, child.name))
        elif isinstance(child, Function) and _is_public(child.name):
            yield child, (*names, child.name)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a body and of the blocks of its `if`, `try` and `with` statements."""
    for statement in body:
        yield statement
        if isinstance(statement, Block):
            yield from _statements(statement.body)
            for handler in getattr(statement, "handlers", []):
                yield from _statements(handler.body)
            yield from _statements(getattr(statement, "orelse", []))
            yield from _statements(getattr(statement, "finalbody", []))


def _is_public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def _kind(node: Documented, names: tuple[str, ...]) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    return "method" if len(names) > 1 else "function"


def _heading(node: Documented, module: str, qualname: str, signature: str) -> str:
    if isinstance(node, ast.Module):
        return f"module {module}"
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in node.bases)
        return f"class {module}.{qualname}" + (f"({bases})" if bases else "")
    return f"{module}.{qualname}{signature}"


def _signature(node: Documented) -> str:
    """`(a, b=1, *, c)` without annotations; a class has its `__init__`'s without `self`."""
    if isinstance(node, Function):
        return f"({ast.unparse(_plain(node.args, 0))})"
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef) and child.name == "__init__":
                return f"({ast.unparse(_plain(child.args, 1))})"
    return ""


def _plain(given: ast.arguments, skip: int) -> ast.arguments:
    """The arguments without annotations and without the first `skip` positional ones."""
    positional_only = given.posonlyargs[skip:]
    positional = given.args[max(0, skip - len(given.posonlyargs)) :]
    return ast.arguments(
        posonlyargs=[ast.arg(arg.arg) for arg in positional_only],
        args=[ast.arg(arg.arg) for arg in positional],
        vararg=ast.arg(given.vararg.arg) if given.vararg else None,
        kwonlyargs=[ast.arg(arg.arg) for arg in given.kwonlyargs],
        kw_defaults=given.kw_defaults,
        kwarg=ast.arg(given.kwarg.arg) if given.kwarg else None,
        # defaults belong to the last positional arguments; a skipped one takes its own along
        defaults=given.defaults[-(len(positional_only) + len(positional)) or None :]
        if positional_only or positional
        else [],
    )
