"""Activation checkpointing (Chen et al. 2016): less memory in forward, more work in backward.

Results are the same to the bit: what is computed again is computed the same way.
"""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

aten = torch.ops.aten
# What costs most to compute again: matrix products and attention.
KEPT = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}


def recompute(model: nn.Module, mode: str) -> None:
    """Have backward compute the blocks' activations again: none, what is cheap, or all of them."""
    if mode == "none":
        return
    contexts: dict[str, Any] = {}
    if mode == "selective":
        contexts["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    for block in model.get_submodule("backbone.blocks").children():
        if "forward" in vars(block):
            return  # it does already
        # the method, not a wrapper module: the parameters keep their names
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, **contexts)


def _policy(context: Any, operator: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = operator in KEPT
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
