"""What a network keeps of the positions that were already read.

Shapes: B sequences, K key/value heads, T new positions, S positions so far, D head_dim.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from llm.config.model import ModelConfig
from llm.model.recurrent import State


class KVCache:
    """Attention's keys and values: room for `capacity` positions of every layer, filled from the left."""

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


class RecurrentCache:
    """The state of every LSTM layer, which has one size however much was read."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}
        self.length = 0

    def keep(self, rows: Tensor) -> None:
        """Go on with these sequences only."""
        self.states = {
            layer: (hidden[:, rows], cell[:, rows]) for layer, (hidden, cell) in self.states.items()
        }


Cache = KVCache | RecurrentCache


def build_cache(
    config: ModelConfig, batch: int, capacity: int, device: torch.device, dtype: torch.dtype
) -> Cache:
    """An empty cache for `batch` sequences of at most `capacity` positions."""
    if config.kind == "lstm":
        return RecurrentCache()
    return KVCache(config, batch, capacity, device, dtype)
