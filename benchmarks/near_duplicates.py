"""Which planted near duplicates the stage dedup finds, beside what theory says of MinHash-LSH.

    python -m benchmarks.near_duplicates FOLDER [PICTURE]

The documents of FOLDER/extract are first de-duplicated by the stage itself. To what stays, a copy
is added of each of 4,000 documents of 50 to 400 words, in which some words are replaced by words
of the corpus, at random places, and the stage runs on all: once for each share of words, from 1
to 20 %. A copy counts as found when it lands in one cluster with its original; what is dropped
otherwise counts against precision. PICTURE is a PNG or SVG.
"""

import argparse
import logging
import random
import re
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import altair as alt

from llm.config.base import load_section
from llm.config.corpus import DedupConfig
from llm.config.paths import Paths
from llm.corpus.documents import EXTRACTED, Row, dump_meta, read_documents, read_shard, write_shards
from llm.corpus.minhash import probability, threshold
from llm.process import Context
from llm.stages.dedup import run

ORIGINALS = 4_000
EDITS = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2)
SHORTEST, LONGEST = 50, 400  # words
BINS = 20

logger = logging.getLogger("benchmark")


def plain(row: Row) -> Row:
    """The document without what only documented objects have, so that its text is compared."""
    return row | {"meta": dump_meta({})}


def edited(text: str, frac: float, vocabulary: list[str], rng: random.Random) -> str:
    """The text with that share of its words, at least one, replaced."""
    parts = re.split(r"(\w+)", text)  # words are at odd places
    places = range(1, len(parts), 2)
    for place in rng.sample(places, max(1, round(frac * len(places)))):
        parts[place] = rng.choice(vocabulary)
    return "".join(parts)


def similarity(one: str, other: str, size: int) -> float:
    """Jaccard similarity of the word n-grams."""

    def grams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.casefold())
        return {tuple(words[n : n + size]) for n in range(max(1, len(words) - size + 1))}

    first, second = grams(one), grams(other)
    return len(first & second) / len(first | second)


def plant(
    rows: list[Row], frac: float, config: DedupConfig, rng: random.Random
) -> list[dict[str, Any]]:
    """A copy of each document with that share of words replaced, and how similar it still is."""
    vocabulary = [word for row in rows for word in re.findall(r"\w+", row["text"])]
    copies = []
    for row in rows:
        text = edited(row["text"], frac, vocabulary, rng)
        copy = row | {"id": f"c0{row['id'][2:]}", "text": text}
        alike = similarity(text, row["text"], config.shingle_words)
        theory = probability(alike, config)
        copies.append({"row": copy, "original": row, "similarity": alike, "theory": theory})
    return copies


def find(copies: list[dict[str, Any]], others: list[Row], paths: Paths, config: DedupConfig) -> int:
    """Note which copies are found; returns how many other documents were dropped."""
    folder = paths.stage("filter") / "kept"
    shutil.rmtree(folder)
    planted = [*others, *(copy["row"] for copy in copies)]
    write_shards(folder, planted, EXTRACTED, 8_000_000)
    run(Context("dedup", paths, Path(paths.work), 2), dedup=config)
    table = read_shard(paths.stage("dedup") / "clusters.parquet")
    kept = dict(zip(table["id"].to_pylist(), table["kept_id"].to_pylist(), strict=True))
    wrong = 0
    for copy in copies:
        original = copy["original"]["id"]
        stays = kept.pop(copy["row"]["id"], None)
        copy["found"] = stays is not None and stays == kept.get(original, original)
        wrong += stays is not None and not copy["found"]
    return wrong + len(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description="Recall and precision of planted copies.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("picture", type=Path, nargs="?")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)
    folder = options.folder / "planted"
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    paths = Paths(**{name: str(folder / name) for name in names})
    config = load_section(DedupConfig, "dedup", Path("params.yaml"))
    shutil.rmtree(folder, ignore_errors=True)
    rows = [plain(row) for row in read_documents(options.folder / "extract")]
    write_shards(paths.stage("filter") / "kept", rows, EXTRACTED, 8_000_000)
    run(Context("dedup", paths, Path(paths.work), 2), dedup=config)
    unique = list(read_documents(paths.stage("dedup") / "kept"))
    fitting = [r for r in unique if SHORTEST <= len(re.findall(r"\w+", r["text"])) <= LONGEST]
    rng = random.Random(1)
    originals = rng.sample(fitting, ORIGINALS)
    every: list[dict[str, Any]] = []
    logger.info(
        "| words replaced | similarity | recall | theory | found | others dropped | precision |"
    )
    logger.info("|---:|---:|---:|---:|---:|---:|---:|")
    for frac in EDITS:
        copies = plant(originals, frac, config, rng)
        wrong = find(copies, unique, paths, config)
        report(frac, copies, wrong)
        every += copies
    if options.picture:
        draw(every, config, options.picture)


def report(frac: float, copies: list[dict[str, Any]], wrong: int) -> None:
    """A row of the table."""
    alike, recall, theory = (
        sum(copy[key] for copy in copies) / len(copies) for key in ("similarity", "found", "theory")
    )
    found = sum(copy["found"] for copy in copies)
    precision = f"{found / (found + wrong):.4f}" if found + wrong else ""
    logger.info(
        f"| {frac:.0%} | {alike:.3f} | {recall:.3f} | {theory:.3f} | {found:,} | {wrong} | {precision} |"
    )


def draw(copies: list[dict[str, Any]], config: DedupConfig, path: Path) -> None:
    """Recall by similarity over the theoretical curve."""
    bins: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for copy in copies:
        bins[min(int(copy["similarity"] * BINS), BINS - 1)].append(copy)
    points = [
        {
            "similarity": sum(copy["similarity"] for copy in each) / len(each),
            "recall": sum(copy["found"] for copy in each) / len(each),
            "copies": len(each),
        }
        for each in bins.values()
    ]
    curve = [{"similarity": n / 200, "recall": probability(n / 200, config)} for n in range(201)]
    x = alt.X(
        "similarity:Q", title="similarity (Jaccard, word 5-grams)", scale=alt.Scale(domain=[0, 1])
    )
    y = alt.Y("recall:Q", title="found", axis=alt.Axis(format="%"))
    line = alt.Chart(alt.Data(values=curve)).mark_line(color="#888").encode(x, y)
    dots = alt.Chart(alt.Data(values=points)).mark_circle(opacity=1, color="#1f5fbf")
    dots = dots.encode(x, y, alt.Size("copies:Q", title="copies", scale=alt.Scale(range=[20, 200])))
    at = [{"similarity": threshold(config)}]
    rule = alt.Chart(alt.Data(values=at)).mark_rule(strokeDash=[4, 4], color="#b55").encode(x)
    title = alt.Title(
        "Planted near duplicates: found, and 1 - (1 - s^8)^14",
        subtitle=f"dashed: the threshold (1/14)^(1/8) = {threshold(config):.3f}",
    )
    chart = alt.layer(line, rule, dots).properties(width=460, height=300, title=title)
    chart.save(str(path))


if __name__ == "__main__":
    main()
