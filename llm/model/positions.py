"""Where a token is: added to its embedding, or turned into its queries and keys.

Shapes: B sequences, T positions, C n_embd, H heads, D width of a head.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from llm.config.model import ModelConfig, RopeScaling

CosSin = tuple[Float[Tensor, "#b 1 t d"], Float[Tensor, "#b 1 t d"]]


class LearnedPositions(nn.Module):
    """x + a learnt vector per position (Radford et al. 2019)."""

    def __init__(self, block_size: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(block_size, width)

    def forward(
        self, x: Float[Tensor, "b t c"], positions: Int[Tensor, "#b t"]
    ) -> Float[Tensor, "b t c"]:
        return x + self.embed(positions)


class SinusoidalPositions(nn.Module):
    """sqrt(C) x + sines and cosines of the position (Vaswani et al. 2017, 3.4 and 3.5)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(
        self, x: Float[Tensor, "b t c"], positions: Int[Tensor, "#b t"]
    ) -> Float[Tensor, "b t c"]:
        steps = torch.arange(0, self.width, 2, device=x.device).float()
        frequencies = 1.0 / 10_000.0 ** (steps / self.width)  # (C/2,)
        angles = positions.float()[..., None] * frequencies  # (B, T, C/2)
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # (B, T, C)
        return x * math.sqrt(self.width) + waves.type_as(x)


class Rotary(nn.Module):
    """cos and sin of position x frequency, each frequency twice (Su et al. 2021).

    Hugging Face's half layout: the pairs are (i, i + D/2).
    """

    def __init__(self, head_dim: int, base: float, scaling: RopeScaling | None = None) -> None:
        super().__init__()
        self.head_dim, self.base, self.scaling = head_dim, base, scaling

    def forward(self, positions: Int[Tensor, "b t"]) -> CosSin:
        steps = torch.arange(0, self.head_dim, 2, device=positions.device).float()
        frequencies = 1.0 / self.base ** (steps / self.head_dim)  # (D/2,) radians per position
        if self.scaling is not None:
            frequencies = scaled(frequencies, self.scaling)
        angles = positions.float()[:, None, :, None] * frequencies  # (B, 1, T, D/2)
        angles = torch.cat([angles, angles], dim=-1)  # (B, 1, T, D)
        return angles.cos(), angles.sin()


def scaled(frequencies: Float[Tensor, " f"], scaling: RopeScaling) -> Float[Tensor, " f"]:
    """Frequencies for a longer context: positions as if they were `factor` times closer.

    linear slows all of them (Chen et al. 2023). llama3 keeps the fast ones, which tell
    neighbours apart, slows those whose wavelength the first context didn't hold, and
    blends in between (Llama 3.1).
    """
    if scaling.kind == "none":
        return frequencies
    slowed = frequencies / scaling.factor
    if scaling.kind == "linear":
        return slowed
    turns = scaling.original_block_size * frequencies / (2 * math.pi)  # in the first context
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * slowed


def rotate(
    x: Float[Tensor, "b h t d"], cos: Float[Tensor, "#b 1 t d"], sin: Float[Tensor, "#b 1 t d"]
) -> Float[Tensor, "b h t d"]:
    """Rotate each pair (x[i], x[i + D/2]) by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos.to(x.dtype), torch.cat([-second, first], dim=-1), sin.to(x.dtype))


def build_positions(config: ModelConfig) -> LearnedPositions | SinusoidalPositions | None:
    """What is added to the embeddings; None for rope and none."""
    if config.positions == "learned":
        return LearnedPositions(config.block_size, config.n_embd)
    if config.positions == "sinusoidal":
        return SinusoidalPositions(config.n_embd)
    return None


def build_rotary(config: ModelConfig) -> Rotary | None:
    """What turns queries and keys; None where positions are not rotary."""
    if config.positions != "rope":
        return None
    return Rotary(config.head_width, config.rope_base, config.rope_scaling)
