"""Sizes of a network and the arithmetic of training it, per token."""

from torch import nn

from llm.model.backbone import Backbone
from llm.model.transformer import LanguageModel


def parameter_count(model: nn.Module) -> int:
    """Parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def flops_per_token(model: LanguageModel, block_size: int) -> int:
    """Training FLOPs per token of a full block: 6 per matrix weight, and attention's share.

    PaLM (Chowdhery et al. 2022, appendix B) counts 12 T x (width of all heads) per layer, a
    causal block as if every token saw all T. A sparse pattern counts what it sees by the same
    measure: 2 m - 1 keys for a mean of m, which is T for all (T + 1) / 2 earlier ones.
    """
    config = model.config
    dense = backbone_flops_per_token(model.backbone) + 6 * model.head.weight.numel()
    if config.kind == "lstm":
        return dense
    keys = 2 * config.mean_keys(block_size) - 1
    return dense + round(12 * config.n_layer * config.attention_width * keys)


def backbone_flops_per_token(backbone: Backbone) -> int:
    """Training FLOPs per token of the blocks' matrices alone.

    A lower bound where logits are computed at few positions and sequences are short, as in
    alignment.
    """
    return 6 * sum(p.numel() for p in backbone.blocks.parameters() if p.dim() >= 2)
