"""Lines or paragraphs that many documents share: navigation, licences, notices.

A unit is known by its words, so that case, punctuation and white space make no difference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llm.config.corpus import BoilerplateConfig
from llm.corpus.columns import as_numpy, number_column, text_column
from llm.corpus.key_ranges import Keys
from llm.corpus.words import range_hashes, split_words

SEPARATORS = {"line": "\n", "paragraph": "\n\n"}


@dataclass(frozen=True)
class Units:
    """The units of some texts, one after the other."""

    values: pa.Array
    texts: np.ndarray  # the number of the text that each is in
    hashes: np.ndarray
    words: np.ndarray  # how many each has


def split_units(texts: pa.Array, unit: str) -> Units:
    """The lines or paragraphs of the texts."""
    lists = pc.call_function(
        "split_pattern", [texts.cast(pa.large_string())], pc.SplitPatternOptions(SEPARATORS[unit])
    )
    values = lists.flatten()
    hashes, counts = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for words in split_words(values):
        hashes.append(range_hashes(words))
        counts.append(np.diff(words.starts))
    lengths = as_numpy(lists.value_lengths())
    numbers = np.repeat(np.arange(len(texts)), lengths)
    return Units(values, numbers, np.concatenate(hashes), np.concatenate(counts))


def unit_keys(texts: pa.Array, config: BoilerplateConfig, first: int) -> Keys:
    """The hash of each unit that is long enough, once per document; these count from `first`."""
    units = split_units(texts, config.unit)
    long = units.words >= config.min_words
    pairs = np.stack([units.hashes[long], units.texts[long].astype(np.uint64)])
    hashes, documents = np.unique(pairs, axis=1)
    return hashes, documents.astype(np.int64) + first


def shared_units(shards: Iterable[Keys], kept: np.ndarray, max_documents: int) -> np.ndarray:
    """Units that more of the kept documents have: (3, units), hash, documents, the first of these.

    In order of hash. `kept` gives for each document the one that stays for it.
    """
    state = np.zeros((3, 0), np.uint64)
    for hashes, documents in shards:
        stays = kept[documents] == documents
        seen = documents[stays].astype(np.uint64)
        new = np.stack([hashes[stays], np.ones(len(seen), np.uint64), seen])
        state = _merged(np.concatenate([state, new], axis=1))
    return state[:, state[1] > max_documents]


def _merged(rows: np.ndarray) -> np.ndarray:
    """One column per hash: the sum of the counts, the least document."""
    if not rows.shape[1]:
        return rows
    rows = rows[:, np.argsort(rows[0], kind="stable")]
    begins = np.flatnonzero(np.concatenate([[True], rows[0, 1:] != rows[0, :-1]]))
    counts = np.add.reduceat(rows[1], begins)
    return np.stack([rows[0, begins], counts, np.minimum.reduceat(rows[2], begins)])


def without_units(texts: pa.Array, config: BoilerplateConfig, shared: np.ndarray) -> pa.Array:
    """The texts without their shared units, and without line feeds at the ends of what changed."""
    units = split_units(texts, config.unit)
    stays = ~np.isin(units.hashes, shared) | (units.words < config.min_words)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.bincount(units.texts[stays], minlength=len(texts)), out=starts[1:])
    lists = pa.LargeListArray.from_arrays(
        number_column(starts), units.values.filter(number_column(stays))
    )
    (separator,) = text_column([SEPARATORS[config.unit]]).cast(pa.large_string())
    joined = pc.call_function("binary_join", [lists, separator])
    changed = np.bincount(units.texts[~stays], minlength=len(texts)) > 0
    trimmed = pc.call_function("utf8_trim", [joined], pc.TrimOptions("\n"))
    return pc.call_function("if_else", [number_column(changed), trimmed, joined]).cast(pa.string())


def first_texts(
    texts: pa.Array, config: BoilerplateConfig, shared: np.ndarray, first: int
) -> Iterator[tuple[str, int]]:
    """The text of each shared unit whose first document is one of these, and its documents."""
    here = (shared[2] >= first) & (shared[2] < first + len(texts))
    if not here.any():
        return
    counts = dict(zip(shared[0, here].tolist(), shared[1, here].tolist(), strict=True))
    units = split_units(texts, config.unit)
    for place in np.flatnonzero(np.isin(units.hashes, shared[0, here])):
        count = counts.pop(int(units.hashes[place]), None)
        if count is not None:
            yield units.values[int(place)].as_py(), count
