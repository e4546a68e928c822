"""Packing changes what a token sees and with whom it is batched, never what follows it."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm.data.blocks import Blocks, TrainingBlocks
from llm.data.packed_blocks import PackedBlocks
from llm.data.shards import ShardWriter, TokenShards
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from llm.train.next_token import next_token_loss
from tests.shapes import shape

START, BLOCK = 0, 8


def stream(tokenizer: Tokenizer, lengths: list[int]) -> tuple[TokenShards, np.ndarray]:
    """Documents START, 1, 2, … each with ids of its own as far as the vocabulary goes."""
    documents, following = [], 1
    for length in lengths:
        body = 1 + (np.arange(following, following + length - 1) % 250)
        documents.append(np.concatenate([[START], body]))
        following += length
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(Path(folder), 50, tokenizer) as writer:
            writer.write(np.concatenate(documents))
        return TokenShards(Path(folder), tokenizer.hash), np.concatenate(documents)


def pack(shards: TokenShards, *, window: int = 100, mask: bool = True) -> PackedBlocks:
    return PackedBlocks(shards, BLOCK, document_start=START, window=window, document_mask=mask)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=40), window=st.integers(1, 50))
def test_every_token_is_an_input_once_with_what_follows_it(
    tokenizer: Tokenizer, lengths: list[int], window: int
) -> None:
    shards, ids = stream(tokenizer, lengths)
    blocks = pack(shards, window=window)
    batch = blocks.batch(range(len(blocks)))
    filled = batch.inputs["loss_mask"]
    pairs = zip(
        batch.inputs["ids"][filled].tolist(), batch.inputs["targets"][filled].tolist(), strict=True
    )
    followed = zip(ids.tolist(), [*ids[1:].tolist(), START], strict=True)
    assert sorted(pairs) == sorted(followed)
    assert batch.units == batch.tokens == len(ids)
    assert blocks.padding_frac == pytest.approx(1 - len(ids) / filled.numel())
    starts = (batch.inputs["positions"] == 0) & filled
    pieces = sum(-(-length // BLOCK) for length in lengths)
    assert int(starts.sum()) == pieces  # cut no more often than its length demands


def test_a_packed_block_spells_out(tokenizer: Tokenizer) -> None:
    """Documents of 3, 4 and 10 tokens: 10 is cut into 8 and 2; 4 and 3 share a block with 1 left."""
    shards, _ = stream(tokenizer, [3, 4, 10])
    batch = pack(shards).batch([0, 1, 2])
    assert batch.inputs["ids"].tolist() == [
        [0, 9, 10, 11, 12, 13, 14, 15],
        [0, 2, 3, 0, 5, 6, 7, 0],
        [16, 17, 0, 0, 0, 0, 0, 0],
    ]
    assert batch.inputs["targets"].tolist() == [
        [9, 10, 11, 12, 13, 14, 15, 16],
        [2, 3, 0, 5, 6, 7, 0, 0],
        [17, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert batch.inputs["positions"].tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 0, 1, 2, 3, 0],
        [0, 1, 0, 1, 2, 3, 4, 5],
    ]
    assert batch.inputs["loss_mask"].sum(1).tolist() == [8, 7, 2]
    assert "positions" not in pack(shards, mask=False).batch([0]).inputs


def test_a_masked_block_costs_what_its_documents_cost_alone(tokenizer: Tokenizer) -> None:
    shards, _ = stream(tokenizer, [3, 4, 6, 2, 5, 8])
    model = LanguageModel(shape(block_size=BLOCK), 256)
    initialise(model, 1)
    blocks = pack(shards)
    together = next_token_loss(model, blocks.batch(range(len(blocks))))["loss"]
    alone = torch.zeros(())
    for start, size in zip(blocks._starts.tolist(), blocks._sizes.tolist(), strict=True):
        piece = torch.from_numpy(blocks._read(start, size).astype(np.int64))[None]
        alone = (
            alone
            + model(piece[:, :-1])
            .flatten(0, 1)
            .log_softmax(-1)
            .gather(-1, piece[0, 1:, None])
            .sum()
            .neg()
        )
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 30), min_size=20, max_size=60),
    micro=st.sampled_from([1, 2, 4]),
    ranks=st.sampled_from([1, 2, 4]),
    best_fit=st.booleans(),
)
def test_the_global_order_depends_neither_on_ranks_nor_on_the_micro_batch(
    tokenizer: Tokenizer, lengths: list[int], micro: int, ranks: int, best_fit: bool
) -> None:
    shards, _ = stream(tokenizer, lengths)
    blocks = pack(shards) if best_fit else Blocks(shards, BLOCK)
    whole = TrainingBlocks(blocks, 4, 4 * BLOCK, 40 * BLOCK, seed=3)
    parts = TrainingBlocks(blocks, micro, 4 * BLOCK, 40 * BLOCK, seed=3)
    for step in range(whole.n_steps):
        shares = [range(rank, parts.micros_per_step, ranks) for rank in range(ranks)]
        rows = {i: parts.micro_batch(step, i).inputs["ids"] for share in shares for i in share}
        together = torch.cat([rows[i] for i in sorted(rows)])
        assert torch.equal(together, whole.micro_batch(step, 0).inputs["ids"])
