"""The recurrent baseline's laws: causal, documents apart, in pieces as at once."""

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from llm.inference.cache import RecurrentCache
from llm.model import recurrent
from llm.model.mask import document_mask
from llm.model.transformer import LanguageModel, RewardModel, initialise
from tests.shapes import LSTM, shape

VOCAB = 60


@pytest.fixture
def model() -> LanguageModel:
    model = LanguageModel(shape(**LSTM), VOCAB)
    initialise(model, 1)
    return model.eval()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(VOCAB, (2, 12), generator=torch.Generator().manual_seed(0))


def test_a_token_never_influences_earlier_logits(model, ids) -> None:
    changed = ids.clone()
    changed[:, 6] = (changed[:, 6] + 1) % VOCAB
    before, after = model(ids), model(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=0)
    assert not torch.allclose(before[:, 6:], after[:, 6:])


def test_documents_in_a_row_are_read_as_if_alone(model, ids) -> None:
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 0, 0, 1, 2, 3, 4], [*range(5), *range(7)]])
    together = model(ids, positions=positions, mask=document_mask(positions))
    for row, pieces in enumerate(([4, 2, 1, 5], [5, 7])):
        alone = [model(piece[None])[0] for piece in ids[row].split(pieces)]
        torch.testing.assert_close(together[row], torch.cat(alone))


def test_read_in_pieces_is_read_at_once(model, ids) -> None:
    """The second piece begins in the middle of a document of one row, and with one of the other."""
    positions = torch.tensor([[*range(12)], [*range(5), *range(7)]])
    whole = model(ids, positions=positions)
    cache, pieces = RecurrentCache(), []
    for piece, places in zip(ids.split([5, 1, 6], 1), positions.split([5, 1, 6], 1), strict=True):
        pieces.append(model(piece, positions=places, cache=cache))
    torch.testing.assert_close(torch.cat(pieces, 1), whole)


def test_a_reward_reads_the_last_real_token_and_no_padding() -> None:
    model = RewardModel(shape(**LSTM), VOCAB)
    short, padded = torch.tensor([[1, 2, 3]]), torch.tensor([[1, 2, 3, 0, 0]])
    torch.testing.assert_close(model(short, torch.tensor([2])), model(padded, torch.tensor([2])))


def test_a_new_network_remembers(model) -> None:
    """Forget gates begin at sigmoid(1), every other bias at 0."""
    for block in model.backbone.blocks:
        bias = (block.lstm.bias_ih_l0 + block.lstm.bias_hh_l0).view(4, 32)
        assert bias.sum(1).tolist() == [0, 32, 0, 0]


def test_shapes_are_what_the_annotations_say(ids, monkeypatch) -> None:
    for cls in (recurrent.LSTMBlock, recurrent.RecurrentBackbone):
        monkeypatch.setattr(cls, "forward", jaxtyped(typechecker=beartype)(cls.forward))
    assert LanguageModel(shape(**LSTM), VOCAB)(ids).shape == (2, 12, VOCAB)
