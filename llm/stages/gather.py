"""Stage gather: documents from the sources that params.yaml names.

Reads    gather.sources       Python sources of the interpreter and of packages; folders; the web
Writes   data/gather          parquet shards: id, source, url, mime, content, meta
         data/gather/skipped  parquet shards: source, url, reason, detail
Metrics  gather.json          documents, bytes, by_source: documents, bytes, failed, skipped by reason

Every source is found before the first is read, but for files on web servers. What has been read is kept outside the
outs, so that a stopped download or crawl goes on where it was.
"""

import heapq
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from llm.cluster.pool import Workers, map_shards
from llm.config.corpus import GatherConfig
from llm.corpus.columns import text_column
from llm.corpus.documents import GATHERED, text_bytes, text_schema, write_table_shards
from llm.corpus.sources.reading import SKIPPED, Gathered, Part, gather_part, list_parts, local_paths
from llm.errors import DataError
from llm.files import write_dir
from llm.process import Context, main, warn_of_unwatched

LOG_EVERY = 20  # parts

logger = logging.getLogger(__name__)


def run(ctx: Context, *, gather: GatherConfig) -> dict[str, Any]:
    """Gather every source; returns the stage's metrics."""
    parts = {
        source.name: list_parts(source, ctx.work, gather.shard_bytes, ctx.workers)
        for source in gather.sources
    }
    sources = [_Source(gather, number, parts) for number in range(len(gather.sources))]
    warn_of_unwatched(ctx, [path for source in gather.sources for path in local_paths(source)])
    with write_dir(ctx.out) as partial:
        tables = (table for source in sources for table in source.documents(ctx))
        shards = write_table_shards(partial, tables, text_schema(*GATHERED), gather.shard_bytes)
        skipped = (table for source in sources for table in source.skipped())
        schema = text_schema(*SKIPPED)
        write_table_shards(partial / "skipped", skipped, schema, gather.shard_bytes)
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
        self._limit = source.limits.max_documents or None
        self._gathered: list[Gathered] = []

    def documents(self, on: Workers) -> Iterator[pa.Table]:
        """The documents, sampled; DataError when there are none."""
        self._read(on)
        for table in self._sampled():
            self.counts["documents"] += table.num_rows
            self.counts["bytes"] += int(text_bytes(table["content"]).sum())
            yield table
        skipped = sum((Counter(part.skipped) for part in self._gathered), Counter[str]())
        self.counts["failed"] = skipped.total()
        if skipped:
            self.counts["skipped"] = dict(sorted(skipped.items()))
        if not self.counts["documents"]:
            raise DataError(self._nothing(skipped))

    def skipped(self) -> Iterator[pa.Table]:
        """What was skipped in the parts that were read."""
        for part in self._gathered:
            yield from part.skipped_tables()

    def _read(self, on: Workers) -> None:
        """Read parts until there are no more, or enough documents."""
        documents = 0
        with closing(map_shards(gather_part, self._parts, on)) as results:
            for number, part in enumerate(results, start=1):
                self._gathered.append(part)
                documents += part.documents
                if number % LOG_EVERY == 0 or number == len(self._parts):
                    logger.info(
                        "%s: %d of %d parts read, %d documents",
                        self.name,
                        number,
                        len(self._parts),
                        documents,
                    )
                if self._limit and documents >= self._limit:
                    break

    def _tables(self, *columns: str) -> Iterator[pa.Table]:
        """The documents up to the source's limit."""
        left = self._limit
        for part in self._gathered:
            for table in part.tables(*columns):
                table = table if left is None else table.slice(0, left)
                left = None if left is None else left - table.num_rows
                yield table

    def _sampled(self) -> Iterator[pa.Table]:
        """All documents when there is no limit, else those of smallest id (a hash), in their order."""
        size = self._sample_size
        if not size:
            yield from self._tables()
            return
        ids = (name for table in self._tables("id") for name in table["id"].to_pylist())
        kept = pc.SetLookupOptions(text_column(heapq.nsmallest(size, ids)))
        for table in self._tables():
            yield table.filter(pc.call_function("is_in", [table["id"]], kept))

    def _nothing(self, skipped: Counter[str]) -> str:
        """What to say of a source without documents: why, with an example."""
        example = next((row for each in self.skipped() for row in each.to_pylist()), None)
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
        shown = f" (skipped: {why}; e.g. {example['url']}: {example['detail']})" if example else ""
        return f"gather.sources: {self.name} gives no document{shown}; correct or remove it"


if __name__ == "__main__":
    main("gather", run, gather=GatherConfig)
