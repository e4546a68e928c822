"""Keys on disk: nothing is lost, and neither ranges nor batches change what is equal."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.key_ranges import Keys, Layout, equal_pairs
from llm.corpus.words import mix

KEYS = st.lists(st.lists(st.integers(0, 8), max_size=12), min_size=1, max_size=5)


def keyed(shards: list[list[int]]) -> list[Keys]:
    firsts = np.cumsum([0, *map(len, shards)])
    return [
        (mix(np.array(keys, np.uint64)), np.arange(first, first + len(keys)))
        for keys, first in zip(shards, firsts, strict=False)
    ]


def found(layout: Layout, paths: list[Path], table: int, most_keys: int) -> set[tuple[int, int]]:
    return {
        pair
        for number in range(layout.ranges)
        for ones, others in equal_pairs(layout.read(paths, table, number), most_keys)
        for pair in zip(ones.tolist(), others.tolist(), strict=True)
    }


@given(KEYS, st.integers(1, 5), st.integers(1, 30))
def test_each_document_is_paired_with_the_first_of_its_key(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[int]], ranges: int, most_keys: int
):
    folder = tmp_path_factory.mktemp("keys")
    layout = Layout(2, ranges)
    paths = [folder / str(number) for number in range(len(shards))]
    backwards = keyed([shard[::-1] for shard in shards])
    for path, one, other in zip(paths, keyed(shards), backwards, strict=True):
        layout.write(path, [one, other])
    flat = [key for shard in shards for key in shard]
    expected = {(flat.index(key), n) for n, key in enumerate(flat) if flat.index(key) != n}
    assert found(layout, paths, 0, most_keys) == expected
    turned = [key for shard in shards for key in shard[::-1]]
    expected = {(turned.index(key), n) for n, key in enumerate(turned) if turned.index(key) != n}
    assert found(layout, paths, 1, most_keys) == expected


def test_a_range_has_what_fits_into_the_memory():
    layout = Layout.fitting(15, keys=1_000_000, memory_bytes=10_000_000)
    assert layout.ranges == 7
    keys = mix(np.arange(1_000_000, dtype=np.uint64))
    sizes = np.bincount(layout.range_of(keys).astype(int), minlength=7)
    assert sizes.max() * 64 < 10_000_000
    assert (np.diff(layout.range_of(np.sort(keys)).astype(int)) >= 0).all()


def test_a_key_that_all_share_does_not_pile_up():
    shards = [(np.full(1000, 7, np.uint64), np.arange(n, n + 1000)) for n in range(0, 9000, 1000)]
    batches = list(equal_pairs(iter(shards), 1500))
    assert max(len(ones) for ones, _ in batches) <= 3000
    assert sum(len(ones) for ones, _ in batches) == 8999
    assert not any(ones.any() for ones, _ in batches)
