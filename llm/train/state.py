"""What a run is between two steps: all that a checkpoint keeps, by names that no number of ranks changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llm.train.guard import StepGuard
from llm.train.masters import MasterWeights
from llm.train.optimizer import parts

Shape = tuple[str, list[int]]  # a tensor's dtype and size, as JSON keeps them


@dataclass
class State:
    """Weights, optimizer, loss scale, guard, the number of finished steps, and the curve so far.

    No random generator and no position in the data: both follow from the step.
    """

    model: nn.Module
    masters: MasterWeights
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    guard: StepGuard
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # one row per logged step

    def weights(self) -> dict[str, Tensor]:
        """The model's trained tensors, tied ones once."""
        named = self.masters.parameters | dict(self.model.named_buffers())
        return {f"model/{name}": value.detach() for name, value in named.items()}

    def tensors(self) -> dict[str, Tensor]:
        """The weights, and the optimizer's state by the name of its parameter."""
        found = self.weights()
        names = {id(parameter): name for name, parameter in self.masters.parameters.items()}
        for part in parts(self.optimizer):
            for parameter, state in part.state.items():
                for key, value in state.items():
                    found[f"optimizer/{names[id(parameter)]}/{key}"] = value
        return found

    def values(self) -> dict[str, Any]:
        """What is no tensor, as JSON, and as it is now: later steps add to the curve while this is written."""
        shapes = {name: shape_of(value) for name, value in self.tensors().items()}
        return {
            "step": self.step,
            "history": list(self.history),
            "scaler": self.scaler.state_dict(),
            "guard": self.guard.state_dict(),
            "tensors": shapes,
        }

    def restore(self, values: Mapping[str, Any]) -> dict[str, Tensor]:
        """Take over `values`; returns the tensors that are now to be filled in place."""
        self.step, self.history = values["step"], values["history"]
        self.scaler.load_state_dict(values["scaler"])
        self.guard.load_state_dict(values["guard"])
        parameters = self.masters.parameters
        for part in parts(self.optimizer):
            part.state.clear()
            own = {id(p) for group in part.param_groups for p in group["params"]}
            for name, shape in values["tensors"].items():
                kind, parameter, *key = name.split("/")
                if kind == "optimizer" and id(p := parameters[parameter]) in own:
                    part.state[p][key[0]] = _room(p, shape)
        return self.tensors()


def shape_of(value: Tensor) -> Shape:
    """A tensor's dtype and whole size, over all ranks."""
    return str(value.dtype).removeprefix("torch."), list(value.shape)


def _room(parameter: nn.Parameter, shape: Shape) -> Tensor:
    """An empty tensor; spread over the ranks like the parameter where it has the parameter's size."""
    dtype = getattr(torch, shape[0])
    if list(parameter.shape) == shape[1]:
        return torch.empty_like(parameter, dtype=dtype, requires_grad=False)
    return torch.empty(shape[1], dtype=dtype, device=parameter.device)
