"""Section `model`: the shape of the network and the parts it is made of."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from llm.config.base import Section


class RopeScaling(Section):
    """How rotary frequencies are stretched for a context longer than the one first trained on."""

    kind: Literal["none", "linear", "llama3"]
    """linear: all frequencies / factor (Chen et al. 2023); llama3: the low ones only (Llama 3.1)."""
    factor: Annotated[float, Field(ge=1)]
    """By how much the context grows."""
    original_block_size: PositiveInt
    """llama3: tokens of the context first trained on."""
    low_freq_factor: PositiveFloat
    """llama3: wavelengths over original_block_size / this are stretched by the whole factor."""
    high_freq_factor: PositiveFloat
    """llama3: wavelengths under original_block_size / this stay."""


class ModelConfig(Section):
    """Shape and parts of a decoder-only network. The vocabulary is the tokenizer's."""

    depth: PositiveInt | None
    """The dial: `llm depth N` writes it and every size, rate and budget that it sets
    (llm/config/depth.py); null leaves them to you."""
    kind: Literal["transformer", "lstm"]
    """lstm: the recurrent baseline, to see what attention buys; of the keys below block_size, n_layer,
    n_embd, norm, norm_eps, logit_softcap, dropout and tie_embeddings act in it. It is not compiled,
    and there is neither tensor parallelism nor float8 nor bf16_weights for it."""
    block_size: PositiveInt
    """Context length, tokens."""
    n_layer: PositiveInt
    """Blocks, one after the other."""
    n_head: PositiveInt
    """Query heads."""
    n_kv_head: PositiveInt
    """Key and value heads; fewer than n_head, which it divides, is grouped-query attention."""
    head_dim: NonNegativeInt
    """Width of each head; 0 is n_embd / n_head."""
    n_embd: PositiveInt
    """Width of the residual stream."""
    n_inner: PositiveInt
    """Width of the feed-forward's hidden layer."""
    norm: Literal["layernorm", "rmsnorm"]
    """Before each sub-layer and at the end."""
    norm_eps: Annotated[float, Field(gt=0)]
    """Added to the variance or mean square that the norm divides by."""
    positions: Literal["learned", "sinusoidal", "rope", "none"]
    """How a token knows where it is."""
    rope_base: Annotated[float, Field(gt=1)]
    """Base of the rotary positions' wavelengths."""
    rope_scaling: RopeScaling
    """Rotary positions beyond the context first trained on."""
    feed_forward: Literal["relu", "gelu", "swiglu", "relu2"]
    """Activation of the feed-forward; swiglu has a third matrix, a gate."""
    attention: Literal["full", "sliding_window", "strided"]
    """Which earlier tokens a token sees: all, the newest, or the newest and every window-th.

    On a CPU a sliding window takes less time than all where blocks are longer: one of 128 tokens takes
    half of it in blocks of 1,024, and as much in blocks of 256. Else, and with a soft cap, what is
    not seen is masked, and takes the time of what is.
    """
    window: NonNegativeInt
    """Tokens of the sliding window, itself included, or the stride; 0 with full attention."""
    qk_norm: bool
    """RMSNorm of every query and key head."""
    attention_softcap: NonNegativeFloat
    """Attention scores are squeezed into this range, either side; 0 is no cap."""
    logit_softcap: NonNegativeFloat
    """The logits as well; 0 is no cap."""
    bias: bool
    """Of linear layers and LayerNorms; the output projection has none."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Of embeddings, attention weights and sub-layers' outputs, in training."""
    tie_embeddings: bool
    """The input embedding is also the output projection."""

    @property
    def head_width(self) -> int:
        return self.head_dim or self.n_embd // self.n_head

    @property
    def attention_width(self) -> int:
        """All query heads side by side."""
        return self.n_head * self.head_width

    def mean_keys(self, n_tokens: int) -> float:
        """Tokens that a token of a block sees, on average, itself included."""
        window = n_tokens if self.attention == "full" else min(self.window, n_tokens)
        pairs = window * n_tokens - window * (window - 1) // 2  # within the window
        if self.attention == "strided":
            pairs += sum(n_tokens - back for back in range(window, n_tokens, window))
        return pairs / n_tokens

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if broken := list(self._broken_rules()):
            raise ValueError("; ".join(broken))
        return self

    def _broken_rules(self) -> Iterator[str]:
        if self.kind == "lstm":
            return  # the keys of these rules do not act
        if not self.head_dim and self.n_embd % self.n_head:
            yield (
                f"n_embd={self.n_embd} must be a multiple of n_head={self.n_head}, "
                "or head_dim given"
            )
        if self.n_head % self.n_kv_head:
            yield f"n_head={self.n_head} must be a multiple of n_kv_head={self.n_kv_head}"
        if self.positions == "rope" and self.head_width % 2:
            yield f"the width of a head, {self.head_width}, must be even: RoPE rotates pairs"
        if self.positions == "sinusoidal" and self.n_embd % 2:
            yield f"n_embd={self.n_embd} must be even: each frequency has a sine and a cosine"
        if (self.attention == "full") != (self.window == 0):
            yield (
                f"window={self.window} does not go with attention={self.attention}: 0 with full, "
                "a number of tokens with sliding_window and strided"
            )
        scaling = self.rope_scaling
        if scaling.kind == "llama3" and scaling.low_freq_factor >= scaling.high_freq_factor:
            yield (
                f"rope_scaling.low_freq_factor={scaling.low_freq_factor} must be less than "
                f"high_freq_factor={scaling.high_freq_factor}"
            )
