"""Disjoint sets in a file."""

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.corpus.clusters import Clusters

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40)


def components(edges: list[tuple[int, int]]) -> list[set[int]]:
    graph = nx.Graph(edges)
    graph.add_nodes_from(range(20))
    return list(nx.connected_components(graph))


def clusters(folder: Path, edges: list[tuple[int, int]], batch: int) -> Clusters:
    joined = Clusters(folder / "clusters", 20)
    for first in range(0, len(edges), batch):
        pairs = np.array(edges[first : first + batch])
        joined.join(pairs[:, 0], pairs[:, 1])
    return joined


@given(EDGES, st.integers(1, 40))
def test_the_first_stays_of_what_is_connected(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]], batch: int
):
    joined = clusters(tmp_path_factory.mktemp("clusters"), edges, batch)
    expected = {member: min(each) for each in components(edges) for member in each}
    assert joined.keepers(None).tolist() == [expected[n] for n in range(20)]


@given(EDGES, st.lists(st.integers(0, 5), min_size=20, max_size=20))
def test_the_first_of_the_longest_stays(
    tmp_path_factory: pytest.TempPathFactory, edges: list[tuple[int, int]], lengths: list[int]
):
    joined = clusters(tmp_path_factory.mktemp("clusters"), edges, 7)
    expected = {
        member: min(each, key=lambda n: (-lengths[n], n))
        for each in components(edges)
        for member in each
    }
    kept = joined.keepers(np.array(lengths)).tolist()
    assert kept == [expected[n] for n in range(20)]


def test_a_chain_of_many_is_one_set(tmp_path: Path):
    size = 50_000
    joined = Clusters(tmp_path / "clusters", size)
    order = np.random.default_rng(1).permutation(size)
    joined.join(order[1:], order[:-1])
    assert not joined.keepers(None).any()


def test_no_documents_have_no_sets(tmp_path: Path):
    assert len(Clusters(tmp_path / "clusters", 0).keepers(None)) == 0
