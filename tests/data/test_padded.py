from collections.abc import Sequence

import pytest
import torch

from llm.data.batch import Batch
from llm.data.padded import PaddedTraining, PaddedValidation, pad
from llm.errors import ConfigError


def collate(items: Sequence[list[int]]) -> Batch:
    return Batch({"ids": pad(items, 0)}, units=len(items), tokens=sum(map(len, items)))


ITEMS = [[i + 1] * (i % 7 + 1) for i in range(20)]


def training(**changes) -> PaddedTraining[list[int]]:
    values = {"batch_size": 4, "micro_batch_size": 2, "epochs": 2, "seed": 1}
    return PaddedTraining(ITEMS, [len(item) for item in ITEMS], collate, **(values | changes))


def test_rows_are_filled_up_on_the_right() -> None:
    assert pad([[1, 2, 3], [4]], 9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad([[True], [True, False]], 0, torch.bool).tolist() == [[True, False], [True, False]]


def test_an_epoch_reads_every_item_once() -> None:
    batches = training()
    assert (batches.n_steps, batches.micros_per_step) == (10, 2)
    for epoch in range(2):
        steps = range(5 * epoch, 5 * epoch + 5)
        rows = [
            batches.micro_batch(s, i).inputs["ids"][:, 0].tolist() for s in steps for i in range(2)
        ]
        assert sorted(value for row in rows for value in row) == list(range(1, 21))


def test_a_step_holds_the_same_items_whatever_the_micro_batch() -> None:
    def items(batches: PaddedTraining, step: int) -> list[int]:
        micros = range(batches.micros_per_step)
        return [
            v for i in micros for v in batches.micro_batch(step, i).inputs["ids"][:, 0].tolist()
        ]

    assert [items(training(), s) for s in range(10)] == [
        items(training(micro_batch_size=4), s) for s in range(10)
    ]


def test_validation_reads_every_item_once_in_order() -> None:
    val = PaddedValidation(ITEMS, collate, 8)
    assert [val[i].units for i in range(len(val))] == [8, 8, 4]
    assert val[2].inputs["ids"][:, 0].tolist() == [17, 18, 19, 20]


def test_a_step_must_be_whole_micro_batches() -> None:
    with pytest.raises(ConfigError, match="4 items is not a multiple of micro_batch_size=3"):
        training(micro_batch_size=3)
