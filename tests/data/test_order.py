import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llm.data.order import bucketed, shuffled


@given(st.integers(0, 300), st.integers(0, 5), st.integers(0, 5))
def test_an_epoch_visits_every_item_once(n: int, epoch: int, seed: int) -> None:
    assert sorted(shuffled(n, epoch, seed)) == list(range(n))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(shuffled(50, epoch, seed)) for epoch in range(3) for seed in range(3)]
    assert len(set(orders)) == 9


@given(
    st.lists(st.integers(1, 500), min_size=1, max_size=300), st.integers(1, 16), st.integers(0, 9)
)
def test_buckets_hold_each_item_at_most_once_and_lose_less_than_a_batch(
    lengths, batch, seed
) -> None:
    batches = bucketed(np.array(lengths), batch, 0, seed)
    assert {len(b) for b in batches} == {batch}
    items = np.concatenate(batches).tolist()
    if len(lengths) >= batch:
        assert len(items) == len(set(items)) == len(lengths) // batch * batch
    else:
        assert set(items) == set(range(len(lengths)))


def test_buckets_need_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 2000)
    padded = sum(len(b) * lengths[b].max() for b in bucketed(lengths, 8, 0, 0))
    assert padded < 1.1 * lengths.sum()
