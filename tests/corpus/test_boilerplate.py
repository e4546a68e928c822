"""Units that documents share."""

import numpy as np
import pyarrow as pa

from llm.config.corpus import BoilerplateConfig
from llm.corpus.boilerplate import (
    first_texts,
    shared_units,
    split_units,
    unit_keys,
    without_units,
)

LINES = BoilerplateConfig(unit="line", max_documents=2, min_words=3)
NOTICE = "All rights reserved, worldwide."
TEXTS = pa.array(
    [
        f"The first page.\n{NOTICE}\nMore of the first.",
        f"{NOTICE}\nThe second page.\n{NOTICE}\n",
        "all rights RESERVED worldwide",
        "Home\n\nThe fourth page.",
        "Home\nThe fifth page, and nothing else.",
        "Home",
    ]
)


def shared(kept: list[int]) -> np.ndarray:
    keys = unit_keys(TEXTS, LINES, 0)
    return shared_units([keys], np.array(kept), LINES.max_documents)


def test_a_unit_counts_once_per_document_that_stays():
    found = shared([0, 1, 2, 3, 4, 5])
    assert found[1:].tolist() == [[3], [0]]
    assert shared([0, 0, 2, 3, 4, 5]).shape == (3, 0)  # the second is a duplicate of the first


def test_shared_units_go_and_short_ones_stay():
    clean = without_units(TEXTS, LINES, shared([0, 1, 2, 3, 4, 5])[0])
    assert clean.to_pylist() == [
        "The first page.\nMore of the first.",
        "The second page.",
        "",
        *TEXTS.to_pylist()[3:],
    ]


def test_nothing_changes_where_nothing_is_shared():
    for unit in ("line", "paragraph"):
        config = LINES.model_copy(update={"unit": unit})
        assert without_units(TEXTS, config, np.zeros(0, np.uint64)).equals(TEXTS)


def test_paragraphs_are_what_empty_lines_separate():
    units = split_units(pa.array(["one\ntwo\n\nthree", "four"]), "paragraph")
    assert units.values.to_pylist() == ["one\ntwo", "three", "four"]
    assert units.texts.tolist() == [0, 0, 1]
    assert units.words.tolist() == [2, 1, 1]


def test_the_first_text_of_a_unit_is_shown_once():
    found = shared([0, 1, 2, 3, 4, 5])
    assert list(first_texts(TEXTS, LINES, found, 0)) == [(NOTICE, 3)]
    assert list(first_texts(TEXTS, LINES, found, 10)) == []


def test_counts_add_up_over_shards():
    shards = [unit_keys(pa.array([f"{NOTICE}\nPage {n}."]), LINES, n) for n in range(5)]
    found = shared_units(shards, np.arange(5), LINES.max_documents)
    assert found[1:].tolist() == [[5], [0]]
