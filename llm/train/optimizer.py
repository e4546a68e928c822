"""AdamW and the learning rate."""

import math

import torch
from torch import nn

from llm.config.train import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); matrices decay, norms and biases don't."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=1e-8, fused=True)


def learning_rate(step: int, n_steps: int, config: OptimConfig) -> float:
    """Linear warm-up to `lr`, then half a cosine down to `min_lr_frac * lr` at the last step."""
    warmup = max(1, round(config.warmup_frac * n_steps))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - 1 - warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return config.lr * (config.min_lr_frac + (1 - config.min_lr_frac) * cosine)
