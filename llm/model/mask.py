"""Which tokens a token sees. Shapes: B sequences, T queries, S keys; True may be seen."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from llm.config.model import ModelConfig

Mask = Bool[Tensor, "#b 1 t s"] | Float[Tensor, "#b 1 t s"]  # True may be seen; or what is added


def attention_mask(
    config: ModelConfig, n_new: int, given: Bool[Tensor, "b 1 t s"] | None, device: torch.device
) -> Bool[Tensor, "#b 1 t s"] | None:
    """`given` and the attention pattern together; None is the pattern where attention knows it itself.

    That is all earlier tokens, and a sliding window on a CPU (llm/model/causal.py). `given` is causal
    already. Its queries are the last of its keys. Every query sees itself.
    """
    windowed = config.attention == "sliding_window" and not config.attention_softcap
    if config.attention == "full" or (given is None and windowed and device.type == "cpu"):
        return given
    n_all = n_new if given is None else given.shape[-1]
    pattern = seen(config, n_new, n_all, device)[None, None]  # (1, 1, T, S)
    return pattern if given is None else given & pattern


def seen(config: ModelConfig, n_new: int, n_all: int, device: torch.device) -> Bool[Tensor, "t s"]:
    """Causal attention's pattern for the last `n_new` of `n_all` tokens.

    sliding_window (Beltagy et al. 2020): the newest `window` tokens, itself included.
    strided (Child et al. 2019, section 4.2, both patterns in every head): the newest
    `window` tokens, and every `window`-th before them.
    """
    query = torch.arange(n_all - n_new, n_all, device=device)[:, None]  # (T, 1)
    distance = query - torch.arange(n_all, device=device)  # (T, S) tokens back
    if config.attention == "full":
        return distance >= 0
    near = distance < config.window
    if config.attention == "strided":
        near |= distance % config.window == 0
    return (distance >= 0) & near


def added(mask: Bool[Tensor, "#b 1 t s"], dtype: torch.dtype) -> Float[Tensor, "#b 1 t s"]:
    """What the fused kernel adds to scores: 0 where a token is seen, else -inf.

    Of a mask of True and False it makes this itself, in each layer anew, and keeps all for backward.
    """
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(
        ~mask, float("-inf")
    )


def document_mask(positions: Int[Tensor, "b t"]) -> Bool[Tensor, "b 1 t t"]:
    """Causal attention within each document of a packed row; position 0 begins a document."""
    document = (positions == 0).cumsum(1)  # (B, T)
    same = document[:, :, None] == document[:, None, :]  # (B, T, T)
    return same.tril()[:, None]
