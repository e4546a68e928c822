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
