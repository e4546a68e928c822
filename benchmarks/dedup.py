"""Removal of near duplicates, end to end: documents per second and peak memory beside datatrove,
daft, rensa and datasketch, all with FineWeb's 14 bands of 8 over word 5-grams.

    python -m benchmarks.dedup prepare FOLDER              # what our gather and extract make
    python -m benchmarks.dedup FOLDER [--python PYTHON] [--times N] [--rounds N] [--only NAME …]

Each engine reads the shards of FOLDER/extract from parquet, writes what stays to parquet, and
runs alone in a process of its own, after its imports, with two workers (rensa and datasketch,
which are libraries of signatures, in one process with the shortest program around them).
PYTHON is an environment of the peers' own, since daft cannot be installed beside the versions of
requirements.lock:

    python -m venv /tmp/peers
    /tmp/peers/bin/pip install 'datatrove[io,processing]==0.10.*' spacy daft datasketch rensa psutil

`--times 10` repeats the corpus, each copy with other words, to show what ten times the
documents cost. Peak memory is the largest sum of the resident sets of the process and its
children that another process saw, looking every 50 ms: pages that processes share count more
than once.
"""

import argparse
import importlib.util
import json
import logging
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.resident import peak_mib

WORKERS = 2
ENGINES = ("ours", "datatrove", "daft", "rensa", "datasketch")
MORE_PACKAGES = (
    "torch transformers datasets pyarrow mlflow prefect distributed dask pydantic huggingface_hub "
    "fsspec moto botocore boto3 playwright openai fastapi altair lxml PIL google rich lm_eval"
)
BANDS, ROWS, WORDS = 14, 8, 5

logger = logging.getLogger("benchmark")


def ours(source: Path, out: Path) -> int:
    """The stage dedup."""
    from llm.config.base import load_section
    from llm.config.corpus import DedupConfig
    from llm.config.paths import Paths
    from llm.process import Context
    from llm.stages.dedup import run

    names = ("models", "metrics", "timings", "plots", "reports", "work")
    paths = Paths(data=str(out), **{name: str(out / name) for name in names})
    kept = paths.stage("filter") / "kept"
    kept.parent.mkdir(parents=True)
    kept.symlink_to(source)
    config = load_section(DedupConfig, "dedup", Path("params.yaml"))
    return run(Context("dedup", paths, out / "work", WORKERS), dedup=config)["documents_kept"]


def datatrove(source: Path, out: Path) -> int:
    """Its four stages, as its example of MinHash has them."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = MinhashConfig(num_buckets=BANDS, hashes_per_bucket=ROWS, n_grams=WORDS)
    names = ("signatures", "buckets", "remove", "kept")
    signatures, buckets, remove, kept = (str(out / name) for name in names)
    reader = ParquetReader(str(source), glob_pattern="[0-9]*.parquet")
    tasks = len(list(source.glob("[0-9]*.parquet")))
    stages = [
        ([reader, MinhashDedupSignature(signatures, config)], tasks),
        ([MinhashDedupBuckets(signatures, buckets, config=config)], BANDS),
        ([MinhashDedupCluster(buckets, remove, config=config)], 1),
        ([reader, MinhashDedupFilter(remove), ParquetWriter(kept)], tasks),
    ]
    for number, (pipeline, count) in enumerate(stages):
        logs = str(out / "logs" / str(number))
        LocalPipelineExecutor(pipeline, tasks=count, workers=WORKERS, logging_dir=logs).run()
    return rows(out / "kept")


def daft(source: Path, out: Path) -> int:
    """Signatures by daft's minhash, bands by its group by, clusters by union-find."""
    import daft as library
    from daft import col

    frame = library.read_parquet(str(source / "[0-9]*.parquet"))
    frame = frame._add_monotonically_increasing_id("number").collect()
    text = col("text").normalize(remove_punct=True, lowercase=True, white_space=True)
    signed = frame.select(
        "number", text.minhash(num_hashes=BANDS * ROWS, ngram_size=WORDS).alias("signature")
    )
    pairs = []
    signed = signed.collect()
    for band in range(BANDS):
        key = col("signature").slice(band * ROWS, (band + 1) * ROWS)
        groups = signed.select("number", key.hash().alias("key")).groupby("key")
        lists = groups.agg(col("number").list_agg().alias("numbers"))
        lists = lists.where(col("numbers").list_count() > 1)
        pairs += [(min(each), n) for each in lists.to_pydict()["numbers"] for n in each]
    dropped = later_members(pairs)
    kept = frame.where(~col("number").is_in(list(dropped))) if dropped else frame
    kept.write_parquet(str(out / "kept"))
    return rows(out / "kept")


def rensa(source: Path, out: Path) -> int:
    """Shingles in Python, signatures by rensa."""
    import numpy as np
    from rensa import RMinHash

    def keys(texts: list[str]) -> "np.ndarray":
        digests = RMinHash.digests_from_token_sets([shingles(t) for t in texts], BANDS * ROWS, 1)
        return np.array(digests, np.uint32).reshape(-1, BANDS, ROWS)

    return in_one_process(source, out, keys)


def datasketch(source: Path, out: Path) -> int:
    """Shingles in Python, signatures by datasketch."""
    import numpy as np
    from datasketch import MinHash

    def keys(texts: list[str]) -> "np.ndarray":
        tokens = ([shingle.encode() for shingle in shingles(text)] for text in texts)
        hashes = [each.hashvalues for each in MinHash.generator(tokens, num_perm=BANDS * ROWS)]
        return np.array(hashes).reshape(-1, BANDS, ROWS)

    return in_one_process(source, out, keys)


def shingles(text: str) -> list[str]:
    """The word 5-grams of a text."""
    import re

    words = re.findall(r"\w+", text.lower()) or [text]
    return list({" ".join(words[n : n + WORDS]) for n in range(max(1, len(words) - WORDS + 1))})


def in_one_process(source: Path, out: Path, keys: Callable) -> int:
    """Read, group by band, write: what is shortest around a library of signatures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(source.glob("[0-9]*.parquet"))
    table = pa.concat_tables([pq.ParquetFile(file).read() for file in files])
    bands = keys(table["text"].to_pylist())
    pairs = []
    for band in range(BANDS):
        first: dict[bytes, int] = {}
        for number, row in enumerate(bands[:, band]):
            pairs.append((first.setdefault(row.tobytes(), number), number))
    dropped = later_members(pairs)
    kept = table.filter(pa.array([n not in dropped for n in range(table.num_rows)]))
    pq.write_table(kept, out / "kept.parquet", compression="zstd")
    return kept.num_rows


def later_members(pairs: list[tuple[int, int]]) -> set[int]:
    """All but the first of what the pairs connect."""
    parents: dict[int, int] = {}

    def root(item: int) -> int:
        while (above := parents.setdefault(item, item)) != item:
            parents[item] = parents[above]
            item = parents[item]
        return item

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parents[high] = low
    return {item for item in list(parents) if root(item) != item}


def rows(folder: Path) -> int:
    """Documents in a folder of parquet files."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


def measure(name: str, source: Path, out: Path) -> None:
    """In a process of its own: run one engine, and print what it did as JSON."""
    engine: Callable[[Path, Path], int] = globals()[name]
    for module in {"ours": ["llm.stages.dedup"], "datatrove": ["datatrove.executor"]}.get(
        name, [name, "pyarrow.parquet"]
    ):
        importlib.import_module(module)
    started = time.perf_counter()
    before = cpu_s()
    kept = engine(source, out)
    found = {"wall_s": time.perf_counter() - started, "cpu_s": cpu_s() - before}
    print(json.dumps({"kept": kept, **found}))  # noqa: T201


def cpu_s() -> float:
    """CPU seconds of this process and of its children that have ended."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(each)[:2]) for each in who)


def prepare(folder: Path) -> None:
    """50,000 docstrings of the standard library and of what is installed, gathered and extracted."""
    from llm.config.base import load_section
    from llm.config.corpus import ExtractConfig, GatherConfig
    from llm.config.paths import Paths
    from llm.process import Context
    from llm.stages import extract, gather

    names = ("models", "metrics", "timings", "plots", "reports", "work")
    paths = Paths(data=str(folder), **{name: str(folder / name) for name in names})
    config = load_section(GatherConfig, "gather", Path("params.yaml"))
    more = [name for name in MORE_PACKAGES.split() if importlib.util.find_spec(name)]
    source = config.sources[0]
    wider = source.model_copy(update={"packages": [*source.packages, *more]})
    config = config.model_copy(update={"sources": [wider], "max_documents": 50_000})
    gather.run(Context("gather", paths, folder / "work" / "gather", WORKERS), gather=config)
    section = load_section(ExtractConfig, "extract", Path("params.yaml"))
    extract.run(Context("extract", paths, folder / "work" / "extract", WORKERS), extract=section)


def repeated(source: Path, times: int, folder: Path) -> Path:
    """The shards so many times, each copy's words ending in its number: it duplicates no other.

    Two digits take the place of two letters, so that documents stay as long as they are.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    files = sorted(source.glob("[0-9]*.parquet"))
    for number in range(times * len(files)):
        copy, file = divmod(number, len(files))
        table = pq.read_table(files[file])
        for name, end in (("text", r"(\b)"), ("meta", r"([^\w\"])")):  # keys end in a quote
            word = f"([a-z])[a-z]{{2}}{end}"
            changed = pc.replace_substring_regex(table[name], word, rf"\1{copy:02d}\2")
            table = table.set_column(table.schema.get_field_index(name), name, changed)
        ids = [f"{copy:03x}{each[3:]}" for each in table["id"].to_pylist()]
        table = table.set_column(0, "id", pa.array(ids))
        pq.write_table(table, folder / f"{number:05d}.parquet", compression="zstd")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="De-duplicators side by side.")
    parser.add_argument("folder", type=Path, nargs="+", help="[prepare] FOLDER")
    parser.add_argument("--python", default=sys.executable, help="of the environment of the peers")
    parser.add_argument("--times", type=int, default=1, help="repeat the corpus")
    parser.add_argument("--rounds", type=int, default=1, help="engines in turns; the median counts")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--measure", nargs=2, metavar=("ENGINE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    folder = options.folder[-1].resolve()
    if str(options.folder[0]) == "prepare":
        prepare(folder)
        return
    if options.measure:
        measure(options.measure[0], folder, Path(options.measure[1]))
        return
    source = folder / "extract"
    if options.times > 1:
        source = repeated(source, options.times, folder / "repeated")
    compare(source, options.only, options.python, options.rounds)


def compare(source: Path, engines: list[str], python: str, rounds: int) -> None:
    """Run the engines in turns and print a row for each: of its run of median time."""
    documents = rows(source)
    size = sum(file.stat().st_size for file in source.glob("[0-9]*.parquet")) / 1e6
    logger.info("%d documents, %.1f MB of parquet, load %.1f", documents, size, os.getloadavg()[0])
    logger.info(
        "| engine | documents/s | seconds | CPU seconds | kept | peak MiB | ours is faster by |"
    )
    logger.info("|---|---:|---:|---:|---:|---:|---:|")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for name in engines * rounds:
        try:
            found[name].append(run_alone(name, source, python))
        except subprocess.CalledProcessError as error:
            logger.info("%s failed: %s", name, error.stderr.strip().splitlines()[-1:])
    base = 0.0
    for name, runs in found.items():
        if not runs:
            continue
        run = sorted(runs, key=lambda each: each["wall_s"])[len(runs) // 2]
        base = base or run["wall_s"]
        logger.info(
            f"| {name} | {documents / run['wall_s']:,.0f} | {run['wall_s']:.2f} "
            f"| {run['cpu_s']:.2f} | {run['kept']:,} | {run['mib']:,.0f} "
            f"| {run['wall_s'] / base:.1f} |"
        )


def run_alone(name: str, source: Path, python: str) -> dict[str, float]:
    """What one engine did, in a process of its own."""
    out = source.parent / f"out-{name}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [sys.executable if name == "ours" else python, "-m", "benchmarks.dedup"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command += [str(source), "--measure", name, str(out)]
    environment["DO_NOT_TRACK"] = "1"
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=errors)
        mib = peak_mib(process.pid, lambda: process.poll() is None)
        said.seek(0)
        errors.seek(0)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command, None, errors.read())
        answer = json.loads(said.read().strip().splitlines()[-1])
    shutil.rmtree(out)
    return answer | {"mib": mib}


if __name__ == "__main__":
    main()
