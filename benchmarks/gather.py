"""Docstrings of the default packages: the stage gather over all cores, beside `ast` on one.

    python -m benchmarks.gather

The peer reads, parses and takes every docstring with `ast.get_docstring`, and does nothing
else: no headings, no ids, no files. Both run in processes of their own; the stage's time is
all of it, from finding the files to the last shard.
"""

import ast
import logging
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from llm.config.base import load_section
from llm.config.corpus import GatherConfig, PythonDocsSource
from llm.config.paths import Paths
from llm.corpus.sources.python_docs import python_files
from llm.process import Context, worker_count
from llm.stages import gather

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Run:
    """What one measurement took."""

    documents: int
    text_bytes: int
    wall_s: float
    peak_mib: float


def measure_stage() -> Run:
    """The stage, on as many processes as there are cores."""
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    workers = worker_count()
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(**{name: f"{folder}/{name}" for name in names})
        started = time.perf_counter()
        ctx = Context("gather", paths, Path(folder) / "work", workers)
        metrics = gather.run(ctx, gather=_config())
        wall_s = time.perf_counter() - started
    peak = _peak_mib(resource.RUSAGE_SELF) + workers * _peak_mib(resource.RUSAGE_CHILDREN)
    return Run(metrics["documents"], metrics["bytes"], wall_s, peak)


def measure_ast() -> Run:
    """Every docstring of the same files, one file after the other."""
    warnings.simplefilter("ignore")
    documents = size = 0
    started = time.perf_counter()
    for source in _config().sources:
        assert isinstance(source, PythonDocsSource), "params.yaml's own source is measured"
        for file in python_files(source):
            try:
                tree = ast.parse(file.path.read_bytes())
            except (SyntaxError, ValueError, RecursionError):
                continue
            found = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, DOCUMENTED))
            for doc in filter(None, found):
                documents += 1
                size += len(doc.encode(errors="replace"))
    wall_s = time.perf_counter() - started
    return Run(documents, size, wall_s, _peak_mib(resource.RUSAGE_SELF))


def _config() -> GatherConfig:
    return load_section(GatherConfig, "gather", Path("params.yaml"))


def _peak_mib(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def _send(pipe: Connection, function: Callable[[], Run]) -> None:
    pipe.send(function())


def _alone(function: Callable[[], Run]) -> Run:
    """A measurement in a process of its own, which may start others."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function))
    process.start()
    theirs.close()  # so that a process that dies is an end of file here
    run = ours.recv()
    process.join()
    return run


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logger.info("| | documents | MB | s | MB/s | ratio | peak MiB |")
    logger.info("|---|---:|---:|---:|---:|---:|---:|")
    runs = {"`ast`, one core": _alone(measure_ast), "gather": _alone(measure_stage)}
    speeds = {name: run.text_bytes / run.wall_s / 1e6 for name, run in runs.items()}
    for name, run in runs.items():
        logger.info(
            f"| {name} | {run.documents:,} | {run.text_bytes / 1e6:.1f} | {run.wall_s:.1f} "
            f"| {speeds[name]:.2f} | {speeds[name] / next(iter(speeds.values())):.1f} "
            f"| {run.peak_mib:.0f} |"
        )


if __name__ == "__main__":
    main()
