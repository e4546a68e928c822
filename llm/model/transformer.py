"""A decoder-only transformer of the parts that section `model` names, and models on a backbone.

Shapes: B sequences, T positions, S keys (T plus what the cache holds), C n_embd,
D width of a head, V vocab_size, N selected positions.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from llm.config.model import ModelConfig
from llm.model.attention import Attention, LayerCache
from llm.model.backbone import Backbone
from llm.model.cross_entropy import chunked_cross_entropy, remade_cross_entropy, remade_logps
from llm.model.dropout import dropout
from llm.model.feed_forward import build_feed_forward
from llm.model.linear import Linear, is_sharded
from llm.model.mask import Mask, added, attention_mask
from llm.model.norm import build_norm
from llm.model.positions import CosSin, build_positions, build_rotary
from llm.model.recurrent import RecurrentBackbone, StateCache, initialise_lstm

INIT_STD = 0.02  # GPT-2


class Block(nn.Module):
    """Pre-norm residual block: x + attn(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_1 = build_norm(config)
        self.attn = Attention(config, layer)
        self.norm_2 = build_norm(config)
        self.mlp = build_feed_forward(config)
        self.dropout = config.dropout

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        rotary: CosSin | None,
        mask: Mask | None,
        cache: LayerCache | None,
    ) -> Float[Tensor, "b t c"]:
        x = x + self._drop(self.attn(self.norm_1(x), rotary, mask, cache))
        return x + self._drop(self.mlp(self.norm_2(x)))

    def _drop(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return dropout(x, self.dropout, self.training)


class TransformerBackbone(Backbone):
    """By blocks of attention and feed-forward."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size, Block, build_positions(config))
        self.rotary = build_rotary(config)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: LayerCache | None = None,
    ) -> Float[Tensor, "b t c"]:
        if positions is None:
            positions = torch.arange(ids.shape[1], device=ids.device)[None]  # (1, T)
        rotary = None if self.rotary is None else self.rotary(positions)
        seen: Mask | None = attention_mask(self.config, ids.shape[1], mask, ids.device)
        if seen is not None and not self.config.attention_softcap:
            seen = added(seen, self.compute_dtype)
        x = self.embed(ids)  # (B, T, C)
        if self.positions is not None:
            x = self.positions(x, positions)
        return self.through_blocks(x, rotary, seen, cache)


def build_backbone(config: ModelConfig, vocab_size: int) -> Backbone:
    """What `kind` names."""
    if config.kind == "lstm":
        return RecurrentBackbone(config, vocab_size)
    return TransformerBackbone(config, vocab_size)


class LanguageModel(nn.Module):
    """Next-token logits at every position, or at the kept ones only."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.backbone = build_backbone(config, vocab_size)
        self.head = Linear(config.n_embd, vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.backbone.embed.weight

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        keep: Bool[Tensor, "b t"] | None = None,
        positions: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: LayerCache | StateCache | None = None,
        targets: Int[Tensor, "b t"] | None = None,
        z_loss: float = 0.0,
        logps: bool = False,
    ) -> Float[Tensor, "... v"] | dict[str, Tensor]:
        """Logits (B, T, V); with `keep`, (N, V) of the kept positions in row-major order.

        With `targets`, `loss` instead: their summed cross-entropy in nats, at the kept positions
        only, and with `z_loss` a `penalty` besides. With `logps` and `keep`, the log-probability
        of each kept target in nats (N,). Without `mask` attention is causal. With it, True may be
        attended to.
        """
        x = self.backbone(ids, positions, mask, cache)
        if targets is None:
            return self._logits(x if keep is None else x[keep])
        if keep is None:
            return self.loss(x.flatten(0, 1), targets.flatten(), z_loss)
        return self.logps_at(keep, x, targets) if logps else self.loss_at(keep, x, targets, z_loss)

    def loss_at(
        self,
        keep: Bool[Tensor, "b t"],
        x: Float[Tensor, "b t c"],
        targets: Int[Tensor, "b t"],
        z_loss: float,
    ) -> dict[str, Tensor]:
        """The loss at the kept positions, of which there is another number each time."""
        return self.loss(x[keep], targets[keep], z_loss)

    def logps_at(
        self, keep: Bool[Tensor, "b t"], x: Float[Tensor, "b t c"], targets: Int[Tensor, "b t"]
    ) -> Float[Tensor, " n"]:
        """Log-probability of each kept target in nats; the logits never are whole."""
        return remade_logps(self._logits, x[keep], targets[keep], vocab_size=self.vocab_size)

    def loss(
        self, x: Float[Tensor, "n c"], targets: Int[Tensor, " n"], z_loss: float
    ) -> dict[str, Tensor]:
        """Summed cross-entropy and penalty of final hidden states, whose logits never are whole."""
        if is_sharded(self.head.weight):  # tensor-parallel
            return remade_cross_entropy(
                self._logits, x, targets, z_loss=z_loss, vocab_size=self.vocab_size
            )
        cap = self.config.logit_softcap
        return chunked_cross_entropy(x, self.head.weight, targets, z_loss=z_loss, softcap=cap)

    def _logits(self, x: Float[Tensor, "*n c"]) -> Float[Tensor, "*n v"]:
        logits = self.head(x)
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits


class RewardModel(nn.Module):
    """One scalar per sequence: a linear head on the hidden state of its last token."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config, self.vocab_size = config, vocab_size
        self.backbone = build_backbone(config, vocab_size)
        self.score = Linear(config.n_embd, 1, bias=False)

    def forward(self, ids: Int[Tensor, "b t"], last: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Scores of right-padded sequences whose last real token is at index `last`."""
        hidden = self.backbone(ids)  # (B, T, C)
        rows = torch.arange(ids.shape[0], device=ids.device)
        return self.score(hidden[rows, last]).squeeze(-1).float()


def initialise(model: LanguageModel, seed: int, *, zero_outputs: bool = False) -> None:
    """GPT-2's initialisation: N(0, 0.02), residual outputs scaled by 1/sqrt(2 n_layer), biases 0.

    With `zero_outputs` the residual outputs are 0: every block starts as the identity, as in ReZero
    (Bachlechner et al. 2020).
    """
    generator = torch.Generator().manual_seed(seed)
    residual_std = 0.0 if zero_outputs else INIT_STD / math.sqrt(2 * model.config.n_layer)
    for name, parameter in model.named_parameters():
        if ".lstm." in name:
            initialise_lstm(name, parameter, generator)
        elif parameter.dim() >= 2:
            is_output = name.endswith(("attn.out.weight", "mlp.down.weight"))
            std = residual_std if is_output else INIT_STD
            nn.init.normal_(parameter, std=std, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
