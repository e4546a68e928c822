"""The learning rate of each step."""

import math

from llm.config.train import OptimConfig


def learning_rate(peak: float, step: int, n_steps: int, config: OptimConfig) -> float:
    """Linear warm-up to `peak`, then the schedule, down to `min_lr_frac * peak` at the last step.

    cosine: half a cosine (Loshchilov & Hutter 2017). wsd: stable at the peak, then a line down
    over the last `decay_frac` of the steps (Hu et al. 2024). linear: a line down. constant.
    """
    warmup = max(1, round(config.warmup_frac * n_steps))
    if step < warmup:
        return peak * (step + 1) / warmup
    if config.schedule == "constant":
        return peak
    first = warmup if config.schedule != "wsd" else n_steps - round(config.decay_frac * n_steps)
    progress = min(max(0.0, (step - first) / max(1, n_steps - 1 - first)), 1.0)
    left = 1 - progress
    if config.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * progress))
    return peak * (config.min_lr_frac + (1 - config.min_lr_frac) * left)
