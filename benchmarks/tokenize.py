"""Encoding a corpus: our encoder beside `tokenizers` at the same number of threads, and the whole
stage on one and on ten times the text.

    python -m benchmarks.tokenize data

The folder is the pipeline's own: decontaminate/kept and tokenizer. Ids are compared document
by document. Every measurement runs in a process of its own; peak memory is that process's, and
of the stage that of all its processes together.
"""

import argparse
import logging
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.resident import peak_mib
from llm.config.base import load_section
from llm.config.paths import Paths
from llm.config.tokenizer import TokenizeConfig
from llm.corpus.documents import read_documents, shard_paths
from llm.process import Context
from llm.stages import tokenize
from llm.tokenizer.fast import Encoder
from llm.tokenizer.load import Tokenizer

THREADS = (1, 2)
ENGINES = ("tokenizers", "ours")
ROUNDS = 3  # the best counts
TIMES = 10
WORKERS = 2

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Run:
    """What one measurement took."""

    text_bytes: int
    wall_s: float
    peak_mib: float

    @property
    def speed(self) -> float:
        """MB of text per second."""
        return self.text_bytes / self.wall_s / 1e6


def measure_engine(engine: str, threads: int, data: Path) -> Run:
    """The best of some rounds over all texts."""
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    tokenizer, texts = Tokenizer.load(data / "tokenizer"), read_texts(data)
    size = sum(len(text.encode()) for text in texts)
    encode = encoder(engine, threads, tokenizer)
    encode(texts[:100])
    seconds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        encode(texts)
        seconds.append(time.perf_counter() - started)
    return Run(size, min(seconds), _peak_mib(resource.RUSAGE_SELF))


def encoder(
    engine: str, threads: int, tokenizer: Tokenizer
) -> Callable[[list[str]], list[list[int]]]:
    """Texts to ids by an engine; ours runs a part of them in each thread, as workers do in processes."""
    if engine == "tokenizers":
        return tokenizer.encode_batch
    ours = Encoder(tokenizer)
    assert ours.engine == "tiktoken", "the tokenizer cannot be had in tiktoken"

    def encode(texts: list[str]) -> list[list[int]]:
        parts = [texts[start : start + 500] for start in range(0, len(texts), 500)]
        with ThreadPoolExecutor(threads) as pool:
            return [ids for part in pool.map(ours.encode, parts) for ids in part]

    return encode


def measure_stage(data: Path, times: int) -> tuple[int, float]:
    """Bytes of text and seconds of the stage on so many times the shards, the same text under other names."""
    config = load_section(TokenizeConfig, "tokenize", Path("params.yaml"))
    names = ("models", "metrics", "timings", "plots", "reports", "work")
    with tempfile.TemporaryDirectory() as folder:
        paths = Paths(data=folder, **{name: f"{folder}/{name}" for name in names})
        shutil.copytree(data / "tokenizer", paths.stage("tokenizer"))
        kept = paths.stage("decontaminate") / "kept"
        kept.mkdir(parents=True)
        shards = shard_paths(data / "decontaminate" / "kept")
        for number in range(times * len(shards)):
            kept.joinpath(f"{number:05d}.parquet").symlink_to(
                shards[number % len(shards)].resolve()
            )
        started = time.perf_counter()
        metrics = tokenize.run(
            Context("tokenize", paths, Path(folder) / "work", WORKERS), tokenize=config
        )
        wall_s = time.perf_counter() - started
    return metrics["train"]["bytes"] + metrics["val"]["bytes"], wall_s


def count_different(data: Path) -> tuple[int, int]:
    """Documents whose ids differ between the engines, and all documents."""
    tokenizer, texts = Tokenizer.load(data / "tokenizer"), read_texts(data)
    ours, theirs = Encoder(tokenizer).encode(texts), tokenizer.encode_batch(texts)
    return sum(a != b for a, b in zip(ours, theirs, strict=True)), len(texts)


def read_texts(data: Path) -> list[str]:
    return [row["text"] for row in read_documents(data / "decontaminate" / "kept", ("text",))]


def _peak_mib(who: int) -> float:
    return resource.getrusage(who).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoding a corpus, beside `tokenizers`.")
    parser.add_argument("data", type=Path, help="with decontaminate/kept and tokenizer")
    data = parser.parse_args().data
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)

    different, documents = _alone(count_different, data)
    logger.info(f"{documents:,} documents, {different} with other ids\n")
    logger.info("| engine | threads | MB/s | ratio | peak MiB |\n|---|---:|---:|---:|---:|")
    for threads in THREADS:
        runs = {engine: _alone(measure_engine, engine, threads, data) for engine in ENGINES}
        for engine, run in runs.items():
            ratio = run.speed / runs["tokenizers"].speed
            logger.info(
                f"| {engine} | {threads} | {run.speed:.1f} | {ratio:.1f} | {run.peak_mib:.0f} |"
            )
    logger.info(
        "\n| stage | text MB | s | ratio | MB/s | peak MiB |\n|---|---:|---:|---:|---:|---:|"
    )
    once = None
    for times in (1, TIMES):
        (size, wall_s), peak = _watched(measure_stage, data, times)
        run = Run(size, wall_s, peak)
        once = once or run
        logger.info(
            f"| {times} x | {run.text_bytes / 1e6:.0f} | {run.wall_s:.1f} "
            f"| {run.wall_s / once.wall_s:.1f} | {run.speed:.1f} | {run.peak_mib:.0f} |"
        )


def _alone(function: Callable[..., Any], *arguments: object) -> Any:
    """A function's result from a process of its own."""
    return _watched(function, *arguments)[0]


def _watched(function: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
    """The same, and the peak memory, MiB, of that process and those that it starts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, *arguments))
    process.start()
    theirs.close()  # so that a process that dies is an end of file here
    assert process.pid is not None, "it has started"
    peak = peak_mib(process.pid, lambda: not ours.poll())
    result = ours.recv()
    process.join()
    return result, peak


def _send(pipe: Connection, function: Callable[..., Any], *arguments: object) -> None:
    pipe.send(function(*arguments))


if __name__ == "__main__":
    main()
