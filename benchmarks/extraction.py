"""Main text of real web pages: how much of the gold text each extractor keeps, how much of
what should go it drops, and pages per second.

    python -m benchmarks.extraction ../shared/data/web

The folder holds pages.warc.gz and gold.json: for each page, segments that must be in the
text (`with`) and that must not (`without`). Every extractor runs alone in a process of its
own, over the same decoded pages. Precision is kept gold segments over all kept segments,
recall is kept gold segments over gold segments.
"""

import argparse
import json
import logging
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from llm.config.base import load_section
from llm.config.corpus import ExtractConfig, Limits
from llm.corpus.element_names import names_of
from llm.corpus.html import extract_html
from llm.corpus.sources.items import Found
from llm.corpus.sources.warc import read_archive

LIMITS = Limits(max_documents=0, max_record_bytes=100_000_000, max_inflation=1000)
PEER = "trafilatura"

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Score:
    """What one extractor did."""

    kept: int  # gold segments in the text
    missed: int
    wrong: int  # segments in the text that should not be there
    pages: int
    cpu_s: float
    peak_mib: float

    @property
    def precision(self) -> float:
        return self.kept / max(1, self.kept + self.wrong)

    @property
    def recall(self) -> float:
        return self.kept / max(1, self.kept + self.missed)

    @property
    def f1(self) -> float:
        return 2 * self.kept / max(1, 2 * self.kept + self.wrong + self.missed)


def read_pages(folder: Path) -> dict[str, str]:
    """The decoded pages by url."""
    items = read_archive("web", str(folder / "pages.warc.gz"), LIMITS, [], 0, 1)
    rows = [item.row for item in items if isinstance(item, Found)]
    return {row["url"]: row["content"] for row in rows}


def measure(name: str, folder: Path) -> Score:
    """One extractor over all pages, the second time: what is loaded on first use is not counted."""
    pages = read_pages(folder)
    extract = extractor(name)
    for page in pages.values():
        extract(page)
    names_of.cache_clear()  # a corpus has few pages twice
    started = time.process_time()
    texts = {url: extract(page) for url, page in pages.items()}
    cpu_s = time.process_time() - started
    kept = missed = wrong = 0
    for url, gold in json.loads((folder / "gold.json").read_text()).items():
        found = [segment in texts[url] for segment in gold["with"]]
        kept, missed = kept + found.count(True), missed + found.count(False)
        wrong += sum(segment in texts[url] for segment in gold["without"])
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Score(kept, missed, wrong, len(pages), cpu_s, peak_mib)


def extractor(name: str) -> Callable[[str], str]:
    """What the stage extract calls."""
    config = load_section(ExtractConfig, "extract", Path("params.yaml"))
    config = config.model_copy(update={"html": name})
    return lambda page: extract_html(page, config)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Extractors of main text, side by side.")
    parser.add_argument("folder", type=Path, help="with pages.warc.gz and gold.json")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    context = multiprocessing.get_context("spawn")
    scores = {}
    for name in ("trafilatura", "resiliparse", "blocks"):
        with context.Pool(1) as pool:  # a process each, for its own peak
            scores[name] = pool.apply(measure, (name, folder))
    logger.info("| extractor | precision | recall | F1 | pages/s a core | ratio | peak MiB |")
    logger.info("|---|---:|---:|---:|---:|---:|---:|")
    for name, score in scores.items():
        ratio = scores[PEER].cpu_s / score.cpu_s
        logger.info(
            f"| {name} | {score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} "
            f"| {score.pages / score.cpu_s:.0f} | {ratio:.1f} | {score.peak_mib:.0f} |"
        )


if __name__ == "__main__":
    main()
