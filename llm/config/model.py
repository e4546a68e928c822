"""Section `model`: the shape of the network."""

from typing import Annotated, Self

from pydantic import Field, PositiveInt, model_validator

from llm.config.base import Section


class ModelConfig(Section):
    """Shape of the network: a Llama-style decoder. The vocabulary is the tokenizer's."""

    block_size: PositiveInt
    """Context length, tokens."""
    n_layer: PositiveInt
    """Blocks, one after the other."""
    n_head: PositiveInt
    """Query heads; divides n_embd into an even width per head."""
    n_kv_head: PositiveInt
    """Key and value heads; fewer than n_head, which it divides, is grouped-query attention."""
    n_embd: PositiveInt
    """Width of the residual stream."""
    n_inner: PositiveInt
    """Width of the feed-forward's hidden layer."""
    rope_base: Annotated[float, Field(gt=1)]
    """Base of the rotary positions' wavelengths."""
    norm_eps: Annotated[float, Field(gt=0)]
    """Added to the mean square that RMSNorm divides by."""
    tie_embeddings: bool
    """The input embedding is also the output projection."""

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} must be a multiple of n_head={self.n_head}")
        if self.n_head % self.n_kv_head:
            raise ValueError(
                f"n_head={self.n_head} must be a multiple of n_kv_head={self.n_kv_head}"
            )
        if self.head_dim % 2:
            raise ValueError(
                f"head_dim={self.head_dim} (n_embd={self.n_embd} / n_head={self.n_head}) "
                "must be even: RoPE rotates pairs"
            )
        return self
