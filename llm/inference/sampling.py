"""Drawing the next token. Shapes: B sequences, V vocabulary."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from llm.config.sampling import SamplingConfig


def next_probs(logits: Float[Tensor, "b v"], sampling: SamplingConfig) -> Float[Tensor, "b v"]:
    """Probabilities after temperature, top-k and then top-p (Holtzman et al. 2020); rows sum to 1.

    Top-p keeps the smallest set of most likely tokens whose probability reaches top_p.
    """
    scaled = logits.float() / sampling.temperature
    if 0 < sampling.top_k < scaled.shape[-1]:
        least = scaled.topk(sampling.top_k).values[:, -1:]  # (B, 1)
        scaled = scaled.masked_fill(scaled < least, float("-inf"))
    probs = scaled.softmax(-1)
    if sampling.top_p < 1:
        ordered, places = probs.sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # probability of all likelier tokens
        ordered = ordered.masked_fill(before >= sampling.top_p, 0)
        probs = torch.zeros_like(probs).scatter(-1, places, ordered)
        probs = probs / probs.sum(-1, keepdim=True)
    return probs


def draw(
    logits: Float[Tensor, "b v"],
    sampling: SamplingConfig,
    generators: Sequence[np.random.Generator],
) -> Int[Tensor, " b"]:
    """One token per row; each row draws from its own generator, so that batching changes nothing.

    Temperature 0 takes the most likely token.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    cumulative = next_probs(logits, sampling).double().cumsum(-1)
    draws = torch.tensor([generator.random() for generator in generators], dtype=torch.float64)
    targets = draws.to(cumulative.device)[:, None] * cumulative[:, -1:]  # in [0, total)
    return torch.searchsorted(cumulative, targets, right=True).squeeze(-1)
