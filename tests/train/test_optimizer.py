import math

import pytest
import torch

from llm.config.model import ModelConfig
from llm.config.train import OptimConfig
from llm.model.transformer import LanguageModel
from llm.train.optimizer import build_optimizer, learning_rate

OPTIM = OptimConfig(
    lr=1.0, min_lr_frac=0.1, warmup_frac=0.1, weight_decay=0.1, beta1=0.9, beta2=0.95, grad_clip=1.0
)


def test_the_rate_warms_up_linearly_and_falls_by_half_a_cosine() -> None:
    """100 steps: 10 of warm-up; half way down (step 54.5) the cosine is at (1 + 0.1) / 2."""
    rates = [learning_rate(step, 100, OPTIM) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert (rates[54] + rates[55]) / 2 == pytest.approx(0.55)
    assert rates[99] == pytest.approx(0.1)


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
