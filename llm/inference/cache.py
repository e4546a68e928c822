"""Keys and values of the positions that were already read.

Shapes: B sequences, K key/value heads, T new positions, S positions so far, D head_dim.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from llm.config.model import ModelConfig


class KVCache:
    """Room for `capacity` positions of every layer, filled from the left."""

    def __init__(
        self,
        config: ModelConfig,
        batch: int,
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        shape = (config.n_layer, batch, config.n_kv_head, capacity, config.head_width)
        self.k = torch.empty(shape, device=device, dtype=dtype)
        self.v = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0  # positions filled; the caller advances it after each forward

    def append(
        self, layer: int, k: Float[Tensor, "b k t d"], v: Float[Tensor, "b k t d"]
    ) -> tuple[Float[Tensor, "b k s d"], Float[Tensor, "b k s d"]]:
        """Store a layer's new keys and values; returns all of them so far."""
        end = self.length + k.shape[2]
        self.k[layer, :, :, self.length : end] = k
        self.v[layer, :, :, self.length : end] = v
        return self.k[layer, :, :, :end], self.v[layer, :, :, :end]

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences only."""
        self.k, self.v = self.k[:, rows], self.v[:, rows]
