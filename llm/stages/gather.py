"""Stage gather: documents from the sources that params.yaml names.

Reads    gather.sources       Python sources of the interpreter and of packages; folders; the web
Writes   data/gather          parquet shards: id, source, url, mime, content, meta
         data/gather/skipped  parquet shards: source, url, reason, detail
Metrics  gather.json          documents, bytes, by_source: documents, bytes, failed, skipped by reason

Every source is found before the first is read. What has been read is kept outside the
outs, so that a stopped download or crawl goes on where it was.
"""

import heapq
import logging
import shutil
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from llm.cluster import map_shards
from llm.config.corpus import GatherConfig
from llm.corpus.documents import GATHERED, Row, write_shards
from llm.corpus.sources.reading import SKIPPED, Gathered, Part, gather_part, list_parts
from llm.errors import DataError
from llm.files import write_dir
from llm.process import Context, main

LOG_EVERY = 20  # parts

logger = logging.getLogger(__name__)


def run(ctx: Context, *, gather: GatherConfig) -> dict[str, Any]:
    """Gather every source; returns the stage's metrics."""
    parts = {
        source.name: list_parts(source, ctx.work, gather.shard_bytes, ctx.workers)
        for source in gather.sources
    }
    sources = [_Source(gather, number, parts) for number in range(len(gather.sources))]
    with write_dir(ctx.out) as partial:
        rows = (row for source in sources for row in source.documents(ctx.workers))
        shards = write_shards(partial, rows, GATHERED, gather.shard_bytes)
        skipped = (row for source in sources for row in source.skipped())
        write_shards(partial / "skipped", skipped, SKIPPED, gather.shard_bytes)
    by_source = {source.name: source.counts for source in sources}
    documents = sum(counts["documents"] for counts in by_source.values())
    logger.info("%d documents in %d shards", documents, shards)
    shutil.rmtree(ctx.work, ignore_errors=True)
    return {
        "documents": documents,
        "bytes": sum(counts["bytes"] for counts in by_source.values()),
        "by_source": by_source,
    }


class _Source:
    """One source as it is gathered: its documents pass once, and are counted."""

    def __init__(self, gather: GatherConfig, number: int, parts: dict[str, list[Part]]) -> None:
        source = gather.sources[number]
        self.name = source.name
        self.counts: dict[str, Any] = {"documents": 0, "bytes": 0, "failed": 0}
        self._parts = parts[source.name]
        self._sample_size = gather.max_documents
        limits = getattr(source, "limits", None)
        self._limit: int | None = (limits.max_documents if limits else 0) or None
        self._gathered: list[Gathered] = []

    def documents(self, workers: int) -> Iterator[Row]:
        """The documents, sampled; DataError when there are none."""
        with closing(self._all(workers)) as rows:
            for row in _sample(islice(rows, self._limit), self._sample_size):
                self.counts["documents"] += 1
                self.counts["bytes"] += len(row["content"].encode())
                yield row
        skipped = sum((Counter(part.skipped) for part in self._gathered), Counter[str]())
        self.counts["failed"] = skipped.total()
        if skipped:
            self.counts["skipped"] = dict(sorted(skipped.items()))
        if not self.counts["documents"]:
            raise DataError(self._nothing(skipped))

    def skipped(self) -> Iterator[Row]:
        """What was skipped in the parts that were read."""
        for part in self._gathered:
            yield from part.skipped_rows()

    def _all(self, workers: int) -> Generator[Row]:
        for number, part in enumerate(map_shards(gather_part, self._parts, workers), start=1):
            self._gathered.append(part)
            if number % LOG_EVERY == 0 or number == len(self._parts):
                logger.info("%s: %d of %d parts read", self.name, number, len(self._parts))
            yield from part.rows()

    def _nothing(self, skipped: Counter[str]) -> str:
        """What to say of a source without documents: why, with an example."""
        example = next(self.skipped(), None)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        shown = f" (skipped: {why}; e.g. {example['url']}: {example['detail']})" if example else ""
        return f"gather.sources: {self.name} gives no document{shown}; correct or remove it"


def _sample(rows: Iterator[Row], size: int) -> Iterator[Row]:
    """All rows when size is 0, else the `size` rows of smallest id (a hash), in their order."""
    if size == 0:
        return rows
    smallest = heapq.nsmallest(size, enumerate(rows), key=lambda item: item[1]["id"])
    return (row for _, row in sorted(smallest, key=lambda item: item[0]))


if __name__ == "__main__":
    main("gather", run, gather=GatherConfig)
