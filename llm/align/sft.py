"""Supervised fine-tuning: conversations as batches whose loss counts the assistant's tokens."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from llm.data.batch import Batch
from llm.data.conversations import Conversation
from llm.data.padded import pad
from llm.tokenizer.load import Tokenizer


@dataclass(frozen=True)
class EncodedConversation:
    """Ids, and True where they are the assistant's."""

    ids: list[int]
    loss_mask: list[bool]


def encode_conversations(
    conversations: Iterable[Conversation], tokenizer: Tokenizer, block_size: int
) -> list[EncodedConversation]:
    """Conversations as ids; those over `block_size` + 1 are left out, never cut."""
    encoded = [
        EncodedConversation(*tokenizer.render(conversation.messages))
        for conversation in conversations
    ]
    return [item for item in encoded if len(item.ids) <= block_size + 1]


def collate_packed(rows: Sequence[Sequence[EncodedConversation]], block_size: int) -> Batch:
    """`ids`, `targets`, `loss_mask`, `positions` (B, T): several conversations in each row.

    Positions count from 0 in each conversation, and in the padding, which nothing counts.
    """
    ids, targets, loss_mask, positions = [], [], [], []
    for row in rows:
        lengths = [len(item.ids) - 1 for item in row]
        ids.append([id_ for item in row for id_ in item.ids[:-1]])
        targets.append([id_ for item in row for id_ in item.ids[1:]])
        loss_mask.append([counts for item in row for counts in item.loss_mask[1:]])
        rest = block_size - sum(lengths)
        positions.append([place for length in (*lengths, rest) for place in range(length)])
    inputs = {
        "ids": pad(ids, 0, length=block_size),
        "targets": pad(targets, 0, length=block_size),
        "loss_mask": pad(loss_mask, 0, torch.bool, length=block_size),
        "positions": pad(positions, 0),
    }
    return Batch(inputs, units=int(inputs["loss_mask"].sum()), tokens=sum(map(len, ids)))


def collate_conversations(items: Sequence[EncodedConversation]) -> Batch:
    """`ids`, `targets`, `loss_mask` (B, T), padded on the right.

    The pad value is never read: padding has no target, and causal attention keeps it
    from everything before it.
    """
    ids = pad([item.ids[:-1] for item in items], 0)
    targets = pad([item.ids[1:] for item in items], 0)
    loss_mask = pad([item.loss_mask[1:] for item in items], 0, torch.bool)
    inputs = {"ids": ids, "targets": targets, "loss_mask": loss_mask}
    return Batch(
        inputs, units=int(loss_mask.sum()), tokens=sum(len(item.ids) - 1 for item in items)
    )
