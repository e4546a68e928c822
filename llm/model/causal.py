"""Causal attention on a CPU, by oneDNN's batched products: in bf16, with dropout, of a sliding window.

torch's fused kernel spends half of its time in tiles that are too small for a CPU's matrix units,
has no dropout there, and multiplies what a mask hides as well; here a tile has no keys later than
its last query, and none before the window of its first. Scores are rounded to bf16, as those of
explicit attention in bf16 are; their softmax is summed in fp32. Nothing of size T x T outlives a
tile, in forward or backward, but for what dropout keeps.

Shapes: B sequences, N sequences times heads, T positions, D width of a head, R rows of a tile,
S keys it sees.
"""

import math
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from llm.model.dropout import keep_mask

TILE = 128  # queries of a tile


class CausalAttention(torch.autograd.Function):
    """softmax(q k^T / sqrt(D)) v over earlier positions (Vaswani et al. 2017, eq. 1), with dropout.

    A mask, where there is one, is what hides keys; `window` then only says which none of a tile sees.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Float[Tensor, "n t d"],
        k: Float[Tensor, "n t d"],
        v: Float[Tensor, "n t d"],
        mask: Float[Tensor, "#b 1 t t"] | None,
        p: float,
        window: int,
    ) -> Float[Tensor, "n t d"]:
        tiles: list[Tensor] = []
        drawn: list[Tensor] = []
        for rows, seen in _tiles(q, window):
            weights = _weights(q, k, mask, rows, seen, window)  # (N, R, S)
            if p:
                drawn.append(keep_mask(weights, p))
                weights = weights * drawn[-1]
            tiles.append(weights @ v[:, seen])
        ctx.save_for_backward(q, k, v, mask, *drawn)
        ctx.p, ctx.window = p, window
        y = torch.cat(tiles, dim=1)
        return y / (1 - p) if p else y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, mask, *drawn = ctx.saved_tensors
        dy = grad_outputs[0] / (1 - ctx.p) if ctx.p else grad_outputs[0]
        scale = 1 / math.sqrt(q.shape[-1])
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (rows, seen), draw in zip_longest(_tiles(q, ctx.window), drawn):
            weights = _weights(q, k, mask, rows, seen, ctx.window)  # (N, R, S)
            dweights = dy[:, rows] @ v[:, seen].transpose(1, 2)
            kept = weights if draw is None else weights * draw
            dv[:, seen] += kept.transpose(1, 2) @ dy[:, rows]
            dkept = dweights if draw is None else dweights * draw
            dscores = torch.ops.aten._softmax_backward_data(dkept, weights, -1, weights.dtype)
            dq[:, rows] = (dscores @ k[:, seen]).mul_(scale)
            dk[:, seen] += (dscores.transpose(1, 2) @ q[:, rows]).mul_(scale)
        return dq, dk, dv, None, None, None


def causal_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b k t d"],
    v: Float[Tensor, "b k t d"],
    mask: Float[Tensor, "#b 1 t t"] | None = None,
    *,
    p: float = 0.0,
    window: int = 0,
) -> Float[Tensor, "b h t d"]:
    """Attention of H query heads on K key/value heads, on the newest `window` tokens or, with 0, all.

    `mask`, which is causal and within the window, is added to scores; `p` is the probability of
    dropout.
    """
    group = q.shape[1] // k.shape[1]
    if group > 1:
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    y = CausalAttention.apply(*(part.flatten(0, 1) for part in (q, k, v)), mask, p, window)
    return y.unflatten(0, q.shape[:2])


def _tiles(q: Tensor, window: int) -> Iterator[tuple[slice, slice]]:
    """The queries of each tile, and the keys that any of them sees."""
    n = q.shape[1]
    for first in range(0, n, TILE):
        rows = slice(first, min(first + TILE, n))
        yield rows, slice(max(0, first - window + 1) if window else 0, rows.stop)


def _weights(
    q: Float[Tensor, "n t d"],
    k: Float[Tensor, "n t d"],
    mask: Float[Tensor, "#b 1 t t"] | None,
    rows: slice,
    seen: slice,
    window: int,
) -> Float[Tensor, "n r s"]:
    """The rows' shares of attention over the keys in `seen`."""
    if mask is None:
        hidden = q.new_full((rows.stop - rows.start, seen.stop - seen.start), float("-inf"))
        own = rows.start - seen.start  # the place of the first row's own key
        unseen = hidden.triu(own + 1)  # (R, S)
        if window:
            unseen += hidden.tril(own - window)
    else:
        heads = q.shape[0] // mask.shape[0]
        unseen = mask[:, :, rows, seen].expand(-1, heads, -1, -1).flatten(0, 1)  # (N, R, S)
    keys = k[:, seen].transpose(1, 2)
    scale = 1 / math.sqrt(q.shape[-1])
    return torch.baddbmm(unseen, q[:, rows], keys, alpha=scale).softmax(-1)
