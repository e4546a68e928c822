"""bf16 weights whose fp32 masters the optimizer updates (Micikevicius et al. 2018, section 3.1)."""

import torch
from torch import nn

from llm.model.backbone import is_of_a_block


class MasterWeights:
    """The parameters that are trained, by name: a model's own, or fp32 masters of what it has in bf16.

    In bf16 are the weights of the blocks. Embeddings and the output projection stay fp32: their
    gradients are sums over more tokens than bf16 can add. Gradients of several micro-batches
    are summed up in fp32, so that one process trains as with `precision: bf16`, to the bit. DDP adds
    the last one's to that sum rounded to bf16, and exchanges bf16.
    """

    def __init__(self, model: nn.Module, *, in_bf16: bool) -> None:
        """With `in_bf16` the model is given new parameters, and its former ones are the masters."""
        self._model = model
        self.parameters = dict(model.named_parameters())
        masters = {k: v for k, v in self.parameters.items() if in_bf16 and is_of_a_block(k)}
        self._copies = {name: nn.Parameter(value.bfloat16()) for name, value in masters.items()}
        self._place(self._copies)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the bf16 weights to those of their masters."""
        for name, copy in self._copies.items():
            if copy.grad is None:
                continue
            master, gradient = self.parameters[name], copy.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            copy.grad = None

    @torch.no_grad()
    def hand_out(self) -> None:
        """The opposite, before processes exchange what they have: DDP sees the model's gradients."""
        for name, copy in self._copies.items():
            master = self.parameters[name]
            if master.grad is not None:
                copy.grad, master.grad = master.grad.bfloat16(), None

    @torch.no_grad()
    def refresh(self) -> None:
        """Give the bf16 weights the values of their masters."""
        for name, copy in self._copies.items():
            copy.copy_(self.parameters[name])

    def dissolve(self) -> None:
        """The model has its masters again, and nothing in bf16."""
        self._place({name: self.parameters[name] for name in self._copies})
        self._copies = {}

    def _place(self, parameters: dict[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            owner, _, own_name = name.rpartition(".")
            setattr(self._model.get_submodule(owner), own_name, parameter)
