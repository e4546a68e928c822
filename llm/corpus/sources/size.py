"""How much text the sources will give, about, before they are read."""

from collections.abc import Iterable
from pathlib import Path

from llm.config.corpus import GatherConfig, PythonDocsSource
from llm.corpus.sources.python_docs import python_files
from llm.corpus.sources.reading import local_paths

DOCSTRING_FRAC = 0.3  # of source code that is docstrings; 0.305 of the default packages
DOCUMENT_BYTES = 1000  # 720 to 1,150 of docstrings


def text_bytes(gather: GatherConfig) -> int | None:
    """None where a source is not on this machine, or not there."""
    total = 0
    for source in gather.sources:
        if isinstance(source, PythonDocsSource):
            paths: Iterable[Path] = (file.path for file in python_files(source))
            total += int(DOCSTRING_FRAC * _size(paths))
            continue
        roots = [Path(path) for path in local_paths(source)]
        if not roots or not all(root.exists() for root in roots):
            return None
        total += sum(
            _size([root] if root.is_file() else filter(Path.is_file, root.rglob("*")))
            for root in roots
        )
    most = gather.max_documents
    return min(total, most * DOCUMENT_BYTES) if most else total


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)
