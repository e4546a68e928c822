import torch

from llm.align.sft import (
    EncodedConversation,
    collate_conversations,
    collate_packed,
    encode_conversations,
)
from llm.data.conversations import Conversation
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from llm.train.next_token import next_token_loss
from tests.shapes import shape


def conversation(question: str, answer: str) -> Conversation:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Conversation("1", "chat", "test", messages)


def test_a_batch_spells_out() -> None:
    items = [
        EncodedConversation([0, 3, 8, 5, 4, 9, 5], [False, False, False, False, False, True, True]),
        EncodedConversation([0, 3, 4, 7], [False, False, False, True]),
    ]
    batch = collate_conversations(items)
    assert batch.inputs["ids"].tolist() == [[0, 3, 8, 5, 4, 9], [0, 3, 4, 0, 0, 0]]
    assert batch.inputs["targets"].tolist() == [[3, 8, 5, 4, 9, 5], [3, 4, 7, 0, 0, 0]]
    assert batch.inputs["loss_mask"].int().tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 0, 0, 0]]
    assert (batch.units, batch.tokens) == (3, 9)


def test_only_the_assistants_words_and_their_end_count(tokenizer: Tokenizer) -> None:
    [item] = encode_conversations([conversation("What is it?", "json")], tokenizer, 64)
    counted = [token for token, counts in zip(item.ids, item.loss_mask, strict=True) if counts]
    assert counted == [*tokenizer.encode("json"), tokenizer.end_id]


def test_a_conversation_that_does_not_fit_is_left_out_not_cut(tokenizer: Tokenizer) -> None:
    kept = encode_conversations(
        [conversation("x" * 500, "y"), conversation("x", "y")], tokenizer, 64
    )
    assert len(kept) == 1


def items(lengths: list[int]) -> list[EncodedConversation]:
    """Conversations of so many ids, the last third of each the assistant's."""
    return [
        EncodedConversation(
            [(7 * n + 3 * i) % 60 for i in range(length)],
            [i >= 2 * length // 3 for i in range(length)],
        )
        for n, length in enumerate(lengths)
    ]


def test_a_packed_row_spells_out() -> None:
    batch = collate_packed([items([4, 3]), items([6])], block_size=7)
    assert batch.inputs["ids"].tolist() == [[0, 3, 6, 7, 10, 0, 0], [0, 3, 6, 9, 12, 0, 0]]
    assert batch.inputs["targets"].tolist() == [[3, 6, 9, 10, 13, 0, 0], [3, 6, 9, 12, 15, 0, 0]]
    assert batch.inputs["loss_mask"].int().tolist() == [
        [0, 1, 1, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0, 0],
    ]
    assert batch.inputs["positions"].tolist() == [[0, 1, 2, 0, 1, 0, 1], [0, 1, 2, 3, 4, 0, 1]]
    assert (batch.units, batch.tokens) == (5, 10)


def test_packed_conversations_cost_and_teach_what_padded_ones_do() -> None:
    chosen = items([9, 20, 14, 6, 31])
    for positions in ("rope", "learned"):
        model = LanguageModel(shape(block_size=40, positions=positions), 64)
        initialise(model, 1)
        gradients = []
        for batch in (
            collate_conversations(chosen),
            collate_packed([[chosen[0], chosen[4]], chosen[1:4]], block_size=40),
        ):
            loss = next_token_loss(model, batch)["loss"]
            (gradient,) = torch.autograd.grad(loss, [model.backbone.embed.weight])
            gradients.append((batch.units, loss, gradient))
        (units, loss, padded), (units_packed, loss_packed, packed) = gradients
        assert units == units_packed
        torch.testing.assert_close(loss, loss_packed)
        torch.testing.assert_close(padded, packed, atol=1e-4, rtol=1e-4)
