"""Best-fit decreasing: every item once, no row too full, none opened while another has room."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.data.batch import Batch
from llm.data.packing import PackedTraining, best_fit, packed_epoch
from llm.errors import ConfigError

ROOM = 20
LENGTHS = st.lists(st.integers(1, ROOM), min_size=1, max_size=80)


def naive(lengths: list[int]) -> list[list[int]]:
    """The definition: the longest first, each into the fullest row that has room."""
    rows: list[list[int]] = []
    for item in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        left = [ROOM - sum(lengths[i] for i in row) for row in rows]
        fitting = [n for n in range(len(rows)) if left[n] >= lengths[item]]
        if fitting:
            rows[min(fitting, key=lambda n: left[n])].append(item)
        else:
            rows.append([item])
    return rows


@given(LENGTHS)
def test_rows_are_those_of_the_definition(lengths: list[int]) -> None:
    def sizes(rows: list[list[int]]) -> list[int]:  # whichever of equally full rows was taken
        return sorted(sum(lengths[i] for i in row) for row in rows)

    rows = best_fit(lengths, ROOM)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert sizes(rows) == sizes(naive(lengths))


def test_a_hand_worked_example() -> None:
    """Room 10. 7 and 6 open rows 0 and 1; 4 fills row 1 exactly, 3 row 0; 2 opens row 2."""
    assert best_fit([3, 7, 2, 6, 4], 10) == [[0, 1], [3, 4], [2]]


def test_nearly_nothing_is_padded() -> None:
    lengths = np.random.default_rng(0).integers(1, 200, 5000)
    assert len(best_fit(lengths, 256)) * 256 < 1.001 * lengths.sum()


@given(LENGTHS, st.integers(1, 30), st.integers(0, 3), st.integers(0, 3))
def test_an_epoch_has_every_item_once(lengths, window, epoch, seed) -> None:
    rows = packed_epoch(np.array(lengths), ROOM, window, epoch, seed)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= ROOM for row in rows)


def collate(rows) -> Batch:
    return Batch({"ids": torch.tensor([sum(row) for row in rows])}, units=len(rows), tokens=1)


def packed(**changes) -> PackedTraining[int]:
    items = [n % 9 + 1 for n in range(60)]
    values = {"room": ROOM, "window": 25, "batch_size": 4, "micro_batch_size": 2, "epochs": 2}
    return PackedTraining(items, items, collate, **(values | {"seed": 1} | changes))


def test_a_step_is_the_same_whatever_the_micro_batch_and_another_in_each_epoch() -> None:
    halves, whole = packed(), packed(micro_batch_size=4)
    steps = [
        torch.cat([halves.micro_batch(s, i).inputs["ids"] for i in range(2)]).tolist()
        for s in range(halves.n_steps)
    ]
    assert steps == [whole.micro_batch(s, 0).inputs["ids"].tolist() for s in range(whole.n_steps)]
    assert halves.n_steps % 2 == 0
    assert steps[: len(steps) // 2] != steps[len(steps) // 2 :]


def test_fewer_rows_than_a_step_go_round_again() -> None:
    few = PackedTraining(
        [5, 5],
        [5, 5],
        collate,
        room=5,
        window=9,
        batch_size=4,
        micro_batch_size=4,
        epochs=1,
        seed=1,
    )
    assert (few.n_steps, few.micro_batch(0, 0).units) == (1, 4)
    with pytest.raises(ConfigError, match="4 rows is not a multiple of micro_batch_size=3"):
        packed(micro_batch_size=3)
