"""Small inputs for the corpus stages' tests."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llm.config.paths import Paths
from llm.corpus.documents import EXTRACTED, Row, document_id, dump_meta, write_shards
from llm.files import fingerprint
from llm.process import Context

WORDS = [
    "array",
    "buffer",
    "element",
    "file",
    "graph",
    "index",
    "list",
    "matrix",
    "value",
    "window",
]


def prose(number: int, length: int = 30) -> str:
    """English-looking text; texts of different numbers share no long run of words."""
    picked = random.Random(number).choices(WORDS, k=length)
    return f"Return item {number} of the " + " ".join(f"{word}{number}" for word in picked) + "."


def function_row(number: int, doc: str | None = None) -> Row:
    """The document of a function of its own module-level name."""
    doc = doc or f"Return the {number}th thing.\n\n{prose(number)}"
    module, name = f"pack.part{number % 5}", f"thing_{number}"
    signature = f"(x, axis={number % 3}, out=None)"
    meta = {
        "kind": "function",
        "module": module,
        "qualname": name,
        "top": f"{module}:{name}",
        "signature": signature,
        "doc": doc,
    }
    url = f"python:{module}#{name}"
    return {
        "id": document_id("docs", url),
        "source": "docs",
        "url": url,
        "text": f"{module}.{name}{signature}\n\n{doc}",
        "language": "en",
        "language_score": "1.0000",
        "meta": dump_meta(meta),
    }


def text_row(name: str, text: str) -> Row:
    """The document of a text file."""
    url = f"file:{name}"
    return {
        "id": document_id("notes", url),
        "source": "notes",
        "url": url,
        "text": text,
        "language": "en",
        "language_score": "1.0000",
        "meta": dump_meta({"file": name}),
    }


def put(folder: Path, rows: list[Row], shard_bytes: int = 20_000) -> None:
    """Write rows as the shards that a former stage left, in place of any others."""
    shutil.rmtree(folder, ignore_errors=True)
    write_shards(folder, rows, EXTRACTED, shard_bytes)


def context(name: str, paths: Paths, workers: int = 1) -> Context:
    """What a stage gets."""
    return Context(name, paths, Path(paths.work) / name, workers)


def assert_same_outs(
    name: str, paths: Paths, run: Callable[..., dict[str, Any]], **config: Any
) -> dict[str, Any]:
    """One worker and two give the same bytes and metrics, which are returned."""
    out = paths.stage(name)
    metrics = run(context(name, paths, 1), **config)
    once = fingerprint(out)
    assert run(context(name, paths, 2), **config) == metrics
    assert fingerprint(out) == once
    assert not list(out.parent.glob(".*.partial"))
    return metrics
