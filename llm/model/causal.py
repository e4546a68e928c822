"""Causal attention for training in bf16 on a CPU, by oneDNN's batched products.

torch's fused kernel spends half of its time in tiles that are too small for a CPU's matrix
units. Scores are rounded to bf16, as those of explicit attention in bf16 are; their softmax is
summed in fp32. Nothing of size T x T outlives a tile, in forward or backward, but for what dropout keeps.
In fp32 it serves dropout, for which torch's kernel is not made.

Shapes: N sequences times heads, T positions, D width of a head, R rows of a tile, S keys it sees.
"""

import math
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llm.model.dropout import keep_mask

TILE = 128  # queries of a tile; a tile skips the keys after its last query


class CausalAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v over earlier positions (Vaswani et al. 2017, eq. 1), with dropout."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Float[Tensor, "n t d"],
        k: Float[Tensor, "n t d"],
        v: Float[Tensor, "n t d"],
        p: float,
    ) -> Float[Tensor, "n t d"]:
        tiles: list[Tensor] = []
        masks: list[Tensor] = []
        for rows in _tiles(q):
            weights = _weights(q, k, rows)  # (N, R, S)
            if p:
                masks.append(keep_mask(weights, p))
                weights = weights * masks[-1]
            tiles.append(weights @ v[:, : rows.stop])
        ctx.save_for_backward(q, k, v, *masks)
        ctx.p = p
        y = torch.cat(tiles, dim=1)
        return y / (1 - p) if p else y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *masks = ctx.saved_tensors
        dy = grad_outputs[0] / (1 - ctx.p) if ctx.p else grad_outputs[0]
        scale = 1 / math.sqrt(q.shape[-1])
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for rows, mask in zip_longest(_tiles(q), masks):
            seen = slice(0, rows.stop)
            weights = _weights(q, k, rows)  # (N, R, S)
            dweights = dy[:, rows] @ v[:, seen].transpose(1, 2)
            kept = weights if mask is None else weights * mask
            dv[:, seen] += kept.transpose(1, 2) @ dy[:, rows]
            dkept = dweights if mask is None else dweights * mask
            dscores = torch.ops.aten._softmax_backward_data(dkept, weights, -1, weights.dtype)
            dq[:, rows] = (dscores @ k[:, seen]).mul_(scale)
            dk[:, seen] += (dscores.transpose(1, 2) @ q[:, rows]).mul_(scale)
        return dq, dk, dv, None


def causal_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b k t d"],
    v: Float[Tensor, "b k t d"],
    p: float = 0.0,
) -> Float[Tensor, "b h t d"]:
    """Attention of H query heads on K key/value heads; `p`: the probability of dropout."""
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    y = CausalAttention.apply(*(part.flatten(0, 1) for part in (q, k, v)), p)
    return y.unflatten(0, q.shape[:2])


def _tiles(q: Tensor) -> Iterator[slice]:
    n = q.shape[1]
    return (slice(first, min(first + TILE, n)) for first in range(0, n, TILE))


def _weights(
    q: Float[Tensor, "n t d"], k: Float[Tensor, "n t d"], rows: slice
) -> Float[Tensor, "n r s"]:
    """The rows' shares of attention over the keys up to the last of them."""
    shape = (rows.stop - rows.start, rows.stop)
    later = q.new_full(shape, float("-inf")).triu(rows.start + 1)  # (R, S)
    keys = k[:, : rows.stop].transpose(1, 2)
    scale = 1 / math.sqrt(q.shape[-1])
    return torch.baddbmm(later, q[:, rows], keys, alpha=scale).softmax(-1)
