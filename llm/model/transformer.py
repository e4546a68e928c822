"""A decoder-only transformer with Llama's arithmetic (Touvron et al. 2023).

RMSNorm before each sub-layer (Zhang & Sennrich 2019), rotary positions (Su et al. 2021),
grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020), no biases.

Shapes: B sequences, T positions, S keys (T plus what the cache holds), C n_embd,
H query heads, K key/value heads, D head_dim, V vocab_size, N selected positions.
"""

import math
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llm.config.model import ModelConfig

INIT_STD = 0.02  # GPT-2


@runtime_checkable
class LayerCache(Protocol):
    """What attention needs of a key/value cache: append, and get everything so far."""

    def append(
        self, layer: int, k: Float[Tensor, "b k t d"], v: Float[Tensor, "b k t d"]
    ) -> tuple[Float[Tensor, "b k s d"], Float[Tensor, "b k s d"]]: ...


class RMSNorm(nn.Module):
    """x / rms(x) * weight, computed in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        return F.rms_norm(x.float(), self.weight.shape, self.weight, self.eps).type_as(x)


class Rotary(nn.Module):
    """cos and sin of position x frequency, each frequency twice (Hugging Face's half layout)."""

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base

    def forward(
        self, positions: Int[Tensor, "b t"]
    ) -> tuple[Float[Tensor, "#b 1 t d"], Float[Tensor, "#b 1 t d"]]:
        steps = torch.arange(0, self.head_dim, 2, device=positions.device).float()
        frequencies = 1.0 / self.base ** (steps / self.head_dim)  # (D/2,) radians per position
        angles = positions.float()[:, None, :, None] * frequencies  # (B, 1, T, D/2)
        angles = torch.cat([angles, angles], dim=-1)  # (B, 1, T, D)
        return angles.cos(), angles.sin()


def rotate(
    x: Float[Tensor, "b h t d"], cos: Float[Tensor, "#b 1 t d"], sin: Float[Tensor, "#b 1 t d"]
) -> Float[Tensor, "b h t d"]:
    """Rotate each pair (x[i], x[i + D/2]) by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return (x * cos + torch.cat([-second, first], dim=-1) * sin).type_as(x)


class Attention(nn.Module):
    """Causal grouped-query attention: n_head / n_kv_head query heads share a key/value head."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        kv_width = config.n_kv_head * config.head_dim
        self.q = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.k = nn.Linear(config.n_embd, kv_width, bias=False)
        self.v = nn.Linear(config.n_embd, kv_width, bias=False)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        rotary: tuple[Float[Tensor, "#b 1 t d"], Float[Tensor, "#b 1 t d"]],
        mask: Bool[Tensor, "b 1 t s"] | None,
        cache: LayerCache | None,
    ) -> Float[Tensor, "b t c"]:
        q, k, v = (self._heads(part(x)) for part in (self.q, self.k, self.v))
        q, k = rotate(q, *rotary), rotate(k, *rotary)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)  # (B, K, S, D)
        y = F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )
        return self.out(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, C)

    def _heads(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "b h t d"]:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.up = nn.Linear(config.n_embd, config.n_inner, bias=False)
        self.down = nn.Linear(config.n_inner, config.n_embd, bias=False)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Pre-norm residual block: x + attn(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_1 = RMSNorm(config.n_embd, config.norm_eps)
        self.attn = Attention(config, layer)
        self.norm_2 = RMSNorm(config.n_embd, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        rotary: tuple[Float[Tensor, "#b 1 t d"], Float[Tensor, "#b 1 t d"]],
        mask: Bool[Tensor, "b 1 t s"] | None,
        cache: LayerCache | None,
    ) -> Float[Tensor, "b t c"]:
        x = x + self.attn(self.norm_1(x), rotary, mask, cache)
        return x + self.mlp(self.norm_2(x))


class Backbone(nn.Module):
    """Token ids to final hidden states; what the language and the reward model share."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, config.n_embd)
        self.rotary = Rotary(config.head_dim, config.rope_base)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = RMSNorm(config.n_embd, config.norm_eps)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t c"]:
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
        rotary = self.rotary(positions)
        x = self.embed(ids)  # (B, T, C)
        for block in self.blocks:
            x = block(x, rotary, mask, cache)
        return self.norm(x)


class LanguageModel(nn.Module):
    """Next-token logits at every position, or at the kept ones only."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.backbone = Backbone(config, vocab_size)
        self.head = nn.Linear(config.n_embd, vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.backbone.embed.weight

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        keep: Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "... v"]:
        """Logits (B, T, V); with `keep`, (N, V) of the kept positions in row-major order.

        Without `mask` attention is causal. With it, True may be attended to.
        """
        x = self.backbone(ids, positions, mask, cache)
        return self.head(x if keep is None else x[keep])


class RewardModel(nn.Module):
    """One scalar per sequence: a linear head on the hidden state of its last token."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.backbone = Backbone(config, vocab_size)
        self.score = nn.Linear(config.n_embd, 1, bias=False)

    def forward(self, ids: Int[Tensor, "b t"], last: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Scores of right-padded sequences whose last real token is at index `last`."""
        hidden = self.backbone(ids)  # (B, T, C)
        rows = torch.arange(ids.shape[0], device=ids.device)
        return self.score(hidden[rows, last]).squeeze(-1).float()


def initialise(model: LanguageModel, seed: int) -> None:
    """GPT-2's initialisation: N(0, 0.02), residual outputs scaled by 1/sqrt(2 n_layer)."""
    generator = torch.Generator().manual_seed(seed)
    residual_std = INIT_STD / math.sqrt(2 * model.config.n_layer)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            std = (
                residual_std if name.endswith(("attn.out.weight", "mlp.down.weight")) else INIT_STD
            )
            nn.init.normal_(parameter, std=std, generator=generator)


def parameter_count(model: nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_token(model: LanguageModel, block_size: int) -> int:
    """Training FLOPs per token of a full block: 6 per matrix weight, and attention's 12 T C per layer.

    Source: PaLM (Chowdhery et al. 2022), appendix B.
    """
    head = 6 * model.head.weight.numel()
    attention = 12 * model.config.n_layer * model.config.n_embd * block_size
    return backbone_flops_per_token(model.backbone) + head + attention


def backbone_flops_per_token(backbone: Backbone) -> int:
    """Training FLOPs per token of the blocks' matrices alone.

    A lower bound where logits are computed at few positions and sequences are short, as in
    alignment.
    """
    return 6 * sum(p.numel() for p in backbone.blocks.parameters() if p.dim() >= 2)
