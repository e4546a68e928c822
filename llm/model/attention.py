"""Causal self-attention: multi-head, or grouped-query with fewer key/value heads.

Shapes: B sequences, T positions, S keys (T plus what the cache holds), C n_embd,
H query heads, K key/value heads, D width of a head.
"""

import math
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llm.config.model import ModelConfig
from llm.model.causal import causal_attention
from llm.model.dropout import dropout
from llm.model.linear import Linear, side_by_side
from llm.model.mask import Mask
from llm.model.norm import RMSNorm
from llm.model.positions import CosSin, rotate


@runtime_checkable
class LayerCache(Protocol):
    """What attention needs of a key/value cache: append, and get everything so far."""

    def append(
        self, layer: int, k: Float[Tensor, "b k t d"], v: Float[Tensor, "b k t d"]
    ) -> tuple[Float[Tensor, "b k s d"], Float[Tensor, "b k s d"]]: ...


class Attention(nn.Module):
    """n_head / n_kv_head query heads share a key/value head (Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_width = layer, config.head_width
        self.softcap, self.dropout = config.attention_softcap, config.dropout
        kv_width = config.n_kv_head * config.head_width
        self.q = Linear(config.n_embd, config.attention_width, bias=config.bias)
        self.k = Linear(config.n_embd, kv_width, bias=config.bias)
        self.v = Linear(config.n_embd, kv_width, bias=config.bias)
        self.out = Linear(config.attention_width, config.n_embd, bias=config.bias)
        if config.qk_norm:  # Henry et al. 2020; with RMSNorm as in Qwen3
            self.q_norm = RMSNorm(config.head_width, config.norm_eps)
            self.k_norm = RMSNorm(config.head_width, config.norm_eps)
        self.qk_norm = config.qk_norm
        self.window = config.window if config.attention == "sliding_window" else 0

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        rotary: CosSin | None,
        mask: Mask | None,
        cache: LayerCache | None,
    ) -> Float[Tensor, "b t c"]:
        q, k, v = map(self._heads, side_by_side(x, self.q, self.k, self.v))
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, K, S, D)
        p = self.dropout if self.training else 0.0
        whole_on_cpu = q.device.type == "cpu" and q.shape[2] == k.shape[2]
        if self.softcap:
            y = explicit_attention(q, k, v, mask, softcap=self.softcap, p=p)
        elif whole_on_cpu and (p or self.window or q.dtype == torch.bfloat16):
            y = causal_attention(q, k, v, mask, p=p, window=self.window)
        else:
            if q.device.type == "cuda" and mask is not None:
                # of torch's fused kernels none of every GPU has both a mask and shared heads
                k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
            y = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, dropout_p=p, is_causal=mask is None, enable_gqa=True
            )
        return self.out(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, C)

    def _heads(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b h t d"]:
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)


def explicit_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b k s d"],
    v: Float[Tensor, "b k s d"],
    mask: Bool[Tensor, "#b 1 t s"] | None = None,
    *,
    softcap: float = 0.0,
    p: float = 0.0,
) -> Float[Tensor, "b h t d"]:
    """softmax(q k^T / sqrt(D)) v over the keys that `mask` allows (Vaswani et al. 2017, eq. 1).

    Equal to `scaled_dot_product_attention` to 1e-5, in T x S memory. Without a mask it is
    causal. A soft cap c turns each score s into c tanh(s / c) (Gemma 2, section 2.1); `p` is the
    probability of dropout.
    """
    group = q.shape[1] // k.shape[1]  # query heads per key/value head
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    weights = scores.float().masked_fill(~mask, float("-inf")).softmax(-1).type_as(v)
    return dropout(weights, p) @ v
