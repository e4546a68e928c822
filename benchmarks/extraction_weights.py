"""Learn the weights of llm/corpus/main_text.py, and say how good they are on pages held out.

    python -m benchmarks.extraction_weights TRAFILATURA/tests ../shared/data/web

The first folder is that of Trafilatura's repository: evaldata.json, and its pages in cache/
and eval/. Pages of the second folder (see benchmarks/extraction.py) are left out, so that
they can tell how good the result is.

A block learns from a gold segment that it contains; with little weight also from
Trafilatura and Resiliparse where they agree on it, so that what nobody marked counts too.
Folds are of sites: no site teaches and is judged at once.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from zlib import crc32

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from benchmarks.extraction import read_pages
from llm.corpus.blocks import read_page
from llm.corpus.decode import decode
from llm.corpus.html import by_resiliparse, by_trafilatura
from llm.corpus.main_text import WEIGHTS, features

AGREED_WEIGHT = 0.02  # a block on which both extractors agree, beside 1 for a gold segment's
INVERSE_REGULARISATION = 0.1  # of standardised features
FOLDS = 5

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Example:
    """One page: its blocks' features, what is known of them, and where its segments stand."""

    site: int
    rows: np.ndarray  # (blocks, features)
    labels: np.ndarray  # 1 main text, 0 not
    importance: np.ndarray  # 0 where nothing is known
    wanted: list[np.ndarray]  # per gold segment, the blocks that contain it
    unwanted: list[np.ndarray]


def read_examples(folder: Path, left_out: set[str]) -> list[Example]:
    examples = []
    for url, gold in sorted(json.loads((folder / "evaldata.json").read_text()).items()):
        if url in left_out:
            continue
        paths = [folder / name / gold["file"] for name in ("cache", "eval")]
        data = next(path for path in paths if path.is_file()).read_bytes()
        html = decode(data, html=True)[0]
        page = read_page(html)
        rows = np.array(features(page), dtype=float).reshape(-1, len(WEIGHTS))
        examples.append(_example(url, html, [_flat(t) for t in page.texts], rows, gold))
    return examples


def _example(
    url: str, html: str, texts: list[str], rows: np.ndarray, gold: dict[str, list[str]]
) -> Example:
    wanted = [_containing(segment, texts) for segment in gold["with"]]
    unwanted = [_containing(segment, texts) for segment in gold["without"]]
    letters = [_letters(text) for text in texts]
    kept = [
        np.array([line in whole for line in letters], dtype=bool)
        for whole in (_letters(by_trafilatura(html)), _letters(by_resiliparse(html)))
    ]
    labels = kept[0].astype(float)
    importance = np.where(
        (kept[0] == kept[1]) & np.array([*map(bool, letters)], dtype=bool), AGREED_WEIGHT, 0
    )
    good, bad = (np.isin(np.arange(len(texts)), _joined(found)) for found in (wanted, unwanted))
    labels[good], labels[bad] = 1, 0
    importance[good | bad] = 1
    importance[good & bad] = 0
    site = crc32(urlsplit(url).netloc.removeprefix("www.").encode())
    return Example(site, rows, labels, importance, wanted, unwanted)


def _flat(text: str) -> str:
    return " ".join(text.split())


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text))


def _containing(segment: str, texts: list[str]) -> np.ndarray:
    segment = _flat(segment)
    return np.array([i for i, text in enumerate(texts) if segment in text], dtype=int)


def _joined(found: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.array([], dtype=int), *found])


def learn(examples: Iterable[Example]) -> np.ndarray:
    """The weights, those of the features as they are."""
    known = [(e.rows[e.importance > 0], e.labels, e.importance) for e in examples]
    rows = np.concatenate([rows for rows, _, _ in known])
    labels = np.concatenate([labels[weights > 0] for _, labels, weights in known])
    importance = np.concatenate([weights[weights > 0] for _, _, weights in known])
    mean, scale = rows[:, 1:].mean(0), rows[:, 1:].std(0) + 1e-9
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=1000)
    model.fit((rows[:, 1:] - mean) / scale, labels, sample_weight=importance)
    weights = np.ravel(model.coef_) / scale
    return np.array([np.ravel(model.intercept_)[0] - weights @ mean, *weights])


def score(examples: Iterable[Example], weights: np.ndarray) -> np.ndarray:
    """Gold segments kept, missed and wrongly kept."""
    counts = np.zeros(3, dtype=int)
    for example in examples:
        kept = example.rows @ weights > 0
        found = sum(bool(kept[blocks].any()) for blocks in example.wanted)
        wrong = sum(bool(kept[blocks].any()) for blocks in example.unwanted)
        counts += (found, len(example.wanted) - found, wrong)
    return counts


def report(what: str, counts: np.ndarray) -> None:
    kept, missed, wrong = counts.tolist()
    precision, recall = kept / (kept + wrong), kept / (kept + missed)
    f1 = 2 * kept / (2 * kept + missed + wrong)
    logger.info(f"{what}: precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn the weights of the main text's model.")
    parser.add_argument("folder", type=Path, help="Trafilatura's tests/")
    parser.add_argument("held_out", type=Path, help="with pages.warc.gz: pages to leave out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    examples = read_examples(arguments.folder, set(read_pages(arguments.held_out)))
    logger.info(f"{len(examples)} pages of {len({e.site for e in examples})} sites")
    folds = GroupKFold(FOLDS).split(examples, groups=[example.site for example in examples])
    counts = np.zeros(3, dtype=int)
    for taught, held_out in folds:
        weights = learn(examples[i] for i in taught)
        counts += score((examples[i] for i in held_out), weights)
    report(f"{FOLDS} folds, held out", counts)
    weights = learn(examples)
    report("all of them, learned", score(examples, weights))
    report("all of them, as in main_text.py", score(examples, np.array([*WEIGHTS.values()])))
    for name, weight in zip(WEIGHTS, weights, strict=True):
        logger.info(f"{name:>18} {weight:6.2f}  ({WEIGHTS[name]:.2f} in main_text.py)")


if __name__ == "__main__":
    main()
