"""AdamW, or Muon for the matrices of the blocks with AdamW for the rest.

Each parameter group has its `peak_lr`, which the schedule scales.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from llm.config.train import OptimConfig
from llm.model.backbone import is_of_a_block
from llm.train.muon import BatchedMuon


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer that `optim.optimizer` names, over all of the model's parameters."""
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if config.optimizer == "adamw":
        return build_adamw(list(named.values()), config)
    hidden = [p for name, p in named.items() if is_hidden(name, p)]
    rest = [p for name, p in named.items() if not is_hidden(name, p)]
    return MuonAdamW(build_muon(hidden, config), build_adamw(rest, config))


def is_hidden(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix of a block: no embedding, no output projection, no norm or bias."""
    return parameter.dim() == 2 and is_of_a_block(name)


def parts(optimizer: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """The optimizers that hold the state, parameter by parameter."""
    return [optimizer.muon, optimizer.adamw] if isinstance(optimizer, MuonAdamW) else [optimizer]


def build_adamw(parameters: list[nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); matrices decay, norms and biases don't."""
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak_lr"] = config.lr
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=1e-8, fused=True)


def build_muon(parameters: list[nn.Parameter], config: OptimConfig) -> BatchedMuon:
    """Muon (Jordan et al. 2024): each update is the nearest orthogonal matrix to the momentum."""
    return BatchedMuon(
        [{"params": parameters, "peak_lr": config.muon_lr}],
        lr=config.muon_lr,
        weight_decay=config.weight_decay,
        momentum=config.muon_momentum,
        nesterov=True,
    )


class MuonAdamW(torch.optim.Optimizer):
    """Both as one: one step, one state, the parameter groups of both."""

    def __init__(self, muon: BatchedMuon, adamw: torch.optim.AdamW) -> None:
        self.muon, self.adamw = muon, adamw
        super().__init__([*muon.param_groups, *adamw.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter once."""
        assert closure is None
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]
