"""All quality rules beside datatrove's, over the same documents: speed, memory, decisions.

    pip install -c requirements.lock -e '.[bench]'
    python -m benchmarks.filters FOLDER

The folder keeps the documents for the next time: 50,000 raw docstrings, gathered and
extracted by our stages. Both read and write parquet with two workers, and both hold the
rules to FineWeb's limits: Gopher's quality and repetition, C4's, FineWeb's own. Ours is
the whole stage: it also judges languages, masks personal data and writes the reject log.
datatrove stops at the first filter that drops a document; ours measures every rule.
"""

import argparse
import logging
import multiprocessing
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.resident import peak_mib
from llm.config.base import parse_yaml
from llm.config.filter import FilterConfig
from llm.config.paths import Paths
from llm.config.presets import apply_preset
from llm.corpus.documents import read_shard, shard_paths
from llm.process import Context
from llm.stages import filter as stage

DOCUMENTS = 50_000
COMPARED = 10_000
WORKERS = 2
TIMES = 10  # the longer run's input

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Run:
    """What one pipeline took, its processes' start included."""

    wall_s: float
    peak_mib: float  # of all its processes together


def web() -> FilterConfig:
    """FineWeb's limits; datatrove has no line rule for terminal punctuation switched on then."""
    return FilterConfig.model_validate(
        parse_yaml(apply_preset(Path("params.yaml").read_text(), "web"), "web")["filter"]
    )


def ours(paths: Paths) -> None:
    """The stage."""
    work = Path(paths.work) / "filter"
    stage.run(Context("filter", paths, work, WORKERS), filter=web())


def datatrove(paths: Paths) -> None:
    """FineWeb's filters in FineWeb's order, one file of ours after the other."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter
    from datatrove.utils.logging import logger as log

    log.remove()  # its progress
    out = Path(paths.data) / "datatrove"
    shutil.rmtree(out, ignore_errors=True)
    LocalPipelineExecutor(
        [
            ParquetReader(str(paths.stage("extract")), glob_pattern="[0-9]*.parquet"),
            GopherRepetitionFilter(),
            GopherQualityFilter(),
            C4QualityFilter(filter_no_terminal_punct=False),
            FineWebQualityFilter(),
            ParquetWriter(str(out / "kept"), compression="zstd"),
        ],
        tasks=WORKERS,
        workers=WORKERS,
        logging_dir=str(out / "log"),
    ).run()


def measure(pipeline: Callable[[Paths], None], paths: Paths) -> Run:
    """One run in a process of its own; its memory is looked at twenty times a second."""
    process = multiprocessing.get_context("spawn").Process(target=pipeline, args=(paths,))
    started = time.monotonic()
    process.start()
    assert process.pid is not None, "it has started"
    peak = peak_mib(process.pid, process.is_alive)
    if process.exitcode:
        raise SystemExit(f"{pipeline.__name__} ended with {process.exitcode}")
    return Run(time.monotonic() - started, peak)


def longer(paths: Paths, folder: Path) -> Paths:
    """Paths whose `extract` holds each shard of `paths` TIMES times."""
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    more = Paths(**{name: str(folder / name) for name in names})
    shutil.rmtree(folder, ignore_errors=True)
    more.stage("extract").mkdir(parents=True)
    shards = shard_paths(paths.stage("extract"))
    for number in range(TIMES * len(shards)):
        link = more.stage("extract") / f"{number:05d}.parquet"
        link.symlink_to(shards[number % len(shards)].resolve())
    return more


def speed(paths: Paths, documents: int) -> None:
    """Both pipelines one after the other, then ours on more input."""
    runs = {"datatrove": measure(datatrove, paths), "ours": measure(ours, paths)}
    logger.info("| pipeline | s | documents/s | ratio | peak MiB |")
    logger.info("|---|---:|---:|---:|---:|")
    for name, run in runs.items():
        ratio = runs["datatrove"].wall_s / run.wall_s
        logger.info(
            f"| {name} | {run.wall_s:.1f} | {documents / run.wall_s:,.0f} | {ratio:.1f} "
            f"| {run.peak_mib:.0f} |"
        )
    more = longer(paths, Path(paths.work) / "longer")
    ten, one = measure(ours, more), measure(ours, paths)
    logger.info(
        f"\n{TIMES} x the input: {ten.wall_s / one.wall_s:.1f} x the time "
        f"({one.wall_s:.1f} s, {ten.wall_s:.1f} s), peak {one.peak_mib:.0f} and "
        f"{ten.peak_mib:.0f} MiB"
    )


def decisions(paths: Paths, documents: pa.Table) -> None:
    """What the pipelines keep, and each rule's decisions beside its peer's."""
    from benchmarks.filter_agreement import compare

    theirs = _ids(Path(paths.data) / "datatrove" / "kept")
    kept = _ids(paths.stage("filter") / "kept")
    logger.info(
        f"\nkept by both {len(kept & theirs):,}, by datatrove alone {len(theirs - kept):,}, "
        f"by ours alone {len(kept - theirs):,}\n"
    )
    logger.info("| rule | limit | datatrove drops | ours drops | agree | where not, our reading |")
    logger.info("|---|---:|---:|---:|---:|---|")
    for row in compare(_sample(documents), web()):
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in row.reasons.most_common())
        logger.info(
            f"| {row.rule} | {row.limit} | {row.theirs:,} | {row.ours:,} | {row.frac:.2%} "
            f"| {reasons} |"
        )


def _sample(documents: pa.Table) -> pa.Table:
    """COMPARED documents, evenly from all of them."""
    count = min(COMPARED, documents.num_rows)
    return documents.take([n * documents.num_rows // count for n in range(count)])


def _ids(folder: Path) -> set[str]:
    return {id for path in folder.glob("*.parquet") for id in pq.read_table(path)["id"].to_pylist()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Our quality rules beside datatrove's.")
    parser.add_argument("folder", type=Path, help="for the documents and what is written")
    parser.add_argument("--part", choices=["speed", "decisions"], help="one of the two alone")
    arguments: Any = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    from benchmarks.documents import docstrings  # not in workers, which import this module

    paths = docstrings(arguments.folder, DOCUMENTS)
    shards = shard_paths(paths.stage("extract"))
    documents = pa.concat_tables([read_shard(path) for path in shards])
    size = sum(len(text.encode()) for text in documents["text"].to_pylist())
    logger.info(f"{documents.num_rows:,} documents, {size / 1e6:.0f} MB, {WORKERS} workers\n")
    if arguments.part != "decisions":
        speed(paths, documents.num_rows)
    if arguments.part != "speed":
        decisions(paths, documents)


if __name__ == "__main__":
    main()
