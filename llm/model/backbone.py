"""What a language and a reward model share, whatever its blocks are made of.

Shapes: B sequences, T positions, C n_embd.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.config.model import ModelConfig
from llm.model.dropout import dropout
from llm.model.norm import build_norm


class Backbone(nn.Module):
    """Token ids to final hidden states: an embedding, blocks on the residual stream, a norm.

    Weights are kept in fp32, or those of the blocks in bf16. Everything is computed in `compute_dtype`,
    also the residual stream; means and sums within an operation in fp32.
    """

    compute_dtype = torch.float32

    def __init__(
        self,
        config: ModelConfig,
        vocab_size: int,
        block: Callable[[ModelConfig, int], nn.Module],
        positions: nn.Module | None = None,
    ) -> None:
        """`block` makes the block of a layer; `positions`, if any, are added to embeddings."""
        super().__init__()
        self.config = config
        self.embed = nn.Embedding(vocab_size, config.n_embd)
        self.positions = positions
        self.blocks = nn.ModuleList(block(config, layer) for layer in range(config.n_layer))
        self.norm = build_norm(config)

    def through_blocks(self, x: Float[Tensor, "b t c"], *context: Any) -> Float[Tensor, "b t c"]:
        """Embeddings to final hidden states; every block is given `context` besides."""
        x = dropout(x.to(self.compute_dtype), self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x, *context)
        return self.norm(x)


def is_of_a_block(name: str) -> bool:
    """Whether a parameter or module of this name belongs to a block."""
    return ".blocks." in f".{name}"
