from pathlib import Path

import numpy as np
import pytest
import torch

from llm.data.blocks import Blocks, TrainingBlocks, ValidationBlocks, document_positions
from llm.data.shards import ShardWriter, TokenShards
from llm.errors import ConfigError, DataError
from llm.tokenizer.load import Tokenizer


@pytest.fixture
def shards(tokenizer: Tokenizer, tmp_path: Path) -> TokenShards:
    """0, 1, 2, … 203 over shards of 50."""
    with ShardWriter(tmp_path, 50, tokenizer) as writer:
        writer.write(np.arange(204))
    return TokenShards(tmp_path, tokenizer.hash)


def test_positions_count_from_each_document_of_a_block() -> None:
    ids = torch.tensor([[5, 6, 0, 7, 8, 0, 0, 9], [0, 1, 2, 3, 4, 5, 6, 7]])
    assert document_positions(ids, 0).tolist() == [[0, 1, 0, 1, 2, 0, 0, 1], [*range(8)]]


def test_targets_are_the_next_ids_across_shards(shards: TokenShards) -> None:
    batch = Blocks(shards, 8).batch([0, 6])
    assert batch.inputs["ids"].tolist() == [list(range(8)), list(range(48, 56))]
    assert batch.inputs["targets"].tolist() == [list(range(1, 9)), list(range(49, 57))]
    assert batch.units == batch.tokens == 16


def test_an_epoch_reads_every_block_once_and_the_next_reshuffles(shards: TokenShards) -> None:
    blocks = Blocks(shards, 8)  # 25 blocks
    batches = TrainingBlocks(blocks, 5, 40, 40 * 10, seed=1)
    firsts = [batches.micro_batch(step, 0).inputs["ids"][:, 0].tolist() for step in range(10)]
    first, second = ([i for step in half for i in step] for half in (firsts[:5], firsts[5:]))
    assert sorted(first) == sorted(second) == list(range(0, 200, 8))
    assert first != second


def test_the_order_does_not_depend_on_the_micro_batch(shards: TokenShards) -> None:
    blocks = Blocks(shards, 8)
    whole = TrainingBlocks(blocks, 4, 32, 320, seed=1).micro_batch(3, 0).inputs["ids"]
    halves = TrainingBlocks(blocks, 2, 32, 320, seed=1)
    parts = [halves.micro_batch(3, index).inputs["ids"].tolist() for index in range(2)]
    assert whole.tolist() == parts[0] + parts[1]


def test_validation_reads_every_block_once(shards: TokenShards) -> None:
    val = ValidationBlocks(Blocks(shards, 8), 4)
    assert [val[i].units for i in range(len(val))] == [32] * 6 + [8]


def test_what_does_not_fit_is_refused(shards: TokenShards) -> None:
    with pytest.raises(DataError, match="204 tokens, fewer than"):
        Blocks(shards, 204)
    with pytest.raises(ConfigError, match="batch_tokens=30 is not a multiple of 32"):
        TrainingBlocks(Blocks(shards, 8), 4, 30, 300, seed=1)
