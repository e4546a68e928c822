import copy
import math

import pytest
import torch

from llm.config.model import ModelConfig
from llm.config.train import OptimConfig
from llm.model.transformer import LanguageModel
from llm.train.optimizer import MuonAdamW, build_optimizer
from tests.shapes import GPT2, shape
from tests.train import toy

OPTIM = OptimConfig.model_validate(toy.OPTIM | {"lr": 1.0})
MUON = OPTIM.model_copy(update={"optimizer": "muon", "lr": 0.01})


def test_norms_do_not_decay_and_matrices_do(tiny: ModelConfig) -> None:
    model = LanguageModel(tiny, 400)
    decayed, free = build_optimizer(model, OPTIM).param_groups
    assert decayed["weight_decay"] == 0.1
    assert free["weight_decay"] == 0.0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert sum(p.numel() for p in free["params"]) == 5 * 32  # two norms a layer, and the last


def test_one_adamw_step_is_the_papers_arithmetic() -> None:
    """First step: m/(1-b1) = g, v/(1-b2) = g², so w - lr*wd*w - lr*g/(|g| + eps)."""
    weight = torch.nn.Parameter(torch.tensor([[2.0]]))
    module = torch.nn.Module()
    module.weight = weight
    optimizer = build_optimizer(module, OPTIM.model_copy(update={"lr": 0.01}))
    weight.grad = torch.tensor([[0.5]])
    optimizer.step()
    assert weight.item() == pytest.approx(2.0 - 0.01 * 0.1 * 2.0 - 0.01 * 0.5 / (0.5 + 1e-8))
    assert math.isfinite(weight.item())


@pytest.mark.parametrize("parts", [{}, GPT2 | {"tie_embeddings": False}, {"qk_norm": True}])
def test_muon_has_the_blocks_matrices_and_adamw_every_other_parameter(parts) -> None:
    model = LanguageModel(shape(**parts), 400)
    optimizer = build_optimizer(model, MUON)
    assert isinstance(optimizer, MuonAdamW)
    names = {id(p): name for name, p in model.named_parameters()}
    groups = [sorted(names[id(p)] for p in group["params"]) for group in optimizer.param_groups]
    hidden, others = groups[0], groups[1] + groups[2]
    assert sorted(hidden + others) == sorted(names.values())
    assert all(".blocks." in name and name.endswith("weight") for name in hidden)
    assert len(hidden) == 2 * (7 if parts.get("feed_forward") != "gelu" else 6)
    assert not any(".attn.q.weight" in name or ".mlp.up.weight" in name for name in others)
    assert [group["peak_lr"] for group in optimizer.param_groups] == [0.02, 0.01, 0.01]


def test_one_muon_step_is_orthogonal() -> None:
    """Momentum of one gradient has its directions; every singular value becomes about 1, and a
    square matrix is updated by lr times that (Jordan et al. 2024; torch's coefficients leave 0.7 to 1.2)."""
    model = LanguageModel(shape(), 400)
    optimizer = build_optimizer(model, MUON.model_copy(update={"weight_decay": 0.0}))
    weight = model.backbone.blocks[0].attn.q.weight  # 32 x 32
    before = weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    update = (before - weight.detach()) / 0.02
    assert (
        torch.linalg.svdvals(update)[:-2].clamp(0.6, 1.3).equal(torch.linalg.svdvals(update)[:-2])
    )


def test_both_optimizers_are_restored() -> None:
    def stepped(optimizer, model, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    model, other = LanguageModel(shape(), 400), LanguageModel(shape(), 400)
    optimizer, again = build_optimizer(model, MUON), build_optimizer(other, MUON)
    stepped(optimizer, model, 0)
    other.load_state_dict(model.state_dict())
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in again.param_groups:  # the groups that steps read
        group["lr"] = 0.5
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    stepped(optimizer, model, 1)
    stepped(again, other, 1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
