from llm.align.sft import EncodedConversation, collate_conversations, encode_conversations
from llm.data.conversations import Conversation
from llm.tokenizer.load import Tokenizer


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
