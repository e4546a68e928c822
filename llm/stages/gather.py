"""Stage gather: documents from the sources that params.yaml names.

Reads    gather.sources       Python sources of the interpreter and of packages; folders
Writes   data/gather          parquet shards: id, source, url, mime, content, meta
Metrics  gather.json          documents, bytes, by_source: documents, bytes, failed (files)

Every source is checked, and every file of a folder read, before the first document is
written.
"""

import heapq
import logging
from collections.abc import Iterator
from typing import Any

from llm.cluster import map_shards
from llm.config.corpus import FolderSource, GatherConfig, Source
from llm.corpus.documents import GATHERED, Row, write_shards
from llm.corpus.folder import folder_documents
from llm.corpus.python_docs import batches, harvest, python_files
from llm.errors import DataError
from llm.files import write_dir
from llm.process import Context, main

logger = logging.getLogger(__name__)


def run(ctx: Context, *, gather: GatherConfig) -> dict[str, Any]:
    """Gather every source; returns the stage's metrics."""
    for source in gather.sources:
        _check(source)
    by_source = {
        source.name: {"documents": 0, "bytes": 0, "failed": 0} for source in gather.sources
    }
    with write_dir(ctx.out) as partial:
        rows = _all_documents(gather, ctx.workers, by_source)
        shards = write_shards(partial, rows, GATHERED, gather.shard_bytes)
        documents = sum(counts["documents"] for counts in by_source.values())
        if not documents:
            raise DataError("gather.sources give no document; name a source that holds text")
    logger.info("%d documents in %d shards", documents, shards)
    return {
        "documents": documents,
        "bytes": sum(counts["bytes"] for counts in by_source.values()),
        "by_source": by_source,
    }


def _check(source: Source) -> None:
    """Raise what is wrong with a source before any work is done for another."""
    if isinstance(source, FolderSource):
        for _ in folder_documents(source):
            pass
    else:
        python_files(source)


def _all_documents(
    gather: GatherConfig, workers: int, by_source: dict[str, dict[str, int]]
) -> Iterator[Row]:
    """Every document, counted in `by_source` as it passes."""
    for source in gather.sources:
        counts = by_source[source.name]
        for row in _sample(_documents(source, workers, counts), gather.max_documents):
            counts["documents"] += 1
            counts["bytes"] += len(row["content"].encode())
            yield row


def _documents(source: Source, workers: int, counts: dict[str, int]) -> Iterator[Row]:
    if isinstance(source, FolderSource):
        yield from folder_documents(source)
        return
    work = batches(python_files(source))
    for number, result in enumerate(map_shards(harvest, work, workers), start=1):
        counts["failed"] += result.failed
        if number % 20 == 0:
            logger.info("%s: %d of %d batches of files", source.name, number, len(work))
        yield from result.documents


def _sample(rows: Iterator[Row], size: int) -> Iterator[Row]:
    """All rows when size is 0, else the `size` rows of smallest id (a hash), in their order."""
    if size == 0:
        return rows
    smallest = heapq.nsmallest(size, enumerate(rows), key=lambda item: item[1]["id"])
    return (row for _, row in sorted(smallest, key=lambda item: item[0]))


if __name__ == "__main__":
    main("gather", run, gather=GatherConfig)
