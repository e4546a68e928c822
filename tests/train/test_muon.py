"""Matrices that are orthogonalised together are what torch's Muon makes of each."""

import copy

import pytest
import torch
from torch import nn

from llm.train import muon
from llm.train.muon import BatchedMuon

SHAPES = [(32, 32), (64, 32), (32, 64), (64, 32), (32, 32), (32, 32), (48, 32)]


@pytest.mark.parametrize("together", [muon.TOGETHER, 2 * 32 * 32, 1])
def test_it_is_torchs_to_the_bit(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    """Of all shapes, some of them several times; a matrix without a gradient stays as it is."""
    monkeypatch.setattr(muon, "TOGETHER", together)
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    theirs = copy.deepcopy(ours)
    settings = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9}
    optimizers = BatchedMuon(ours, **settings), torch.optim.Muon(theirs, **settings)
    for _ in range(3):
        for one, other in list(zip(ours, theirs, strict=True))[:-1]:
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    assert all(map(torch.equal, ours, theirs))
    states = [
        [state["momentum_buffer"] for state in optimizer.state.values()] for optimizer in optimizers
    ]
    assert len(states[0]) == len(SHAPES) - 1
    assert all(any(torch.equal(mine, theirs) for theirs in states[1]) for mine in states[0])
