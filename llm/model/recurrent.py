"""The recurrent baseline: what attention buys is what it has over these LSTMs.

It keeps embedding, norms, residual stream and head of the transformer; only a state of fixed
size goes from token to token, where attention looks back at every one.

Shapes: B sequences, T positions, C n_embd, N documents of a batch.
"""

import math
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence

from llm.config.model import ModelConfig
from llm.model.backbone import Backbone
from llm.model.dropout import dropout
from llm.model.norm import build_norm

State = tuple[Float[Tensor, "1 b c"], Float[Tensor, "1 b c"]]  # hidden, cell


@runtime_checkable
class StateCache(Protocol):
    """What a recurrent layer needs of a cache: its state after the tokens so far; none at first."""

    states: dict[int, State]


class LSTMBlock(nn.Module):
    """Pre-norm residual layer: x + lstm(norm(x)) (Hochreiter & Schmidhuber 1997)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.dropout = layer, config.dropout
        self.norm = build_norm(config)
        self.lstm = nn.LSTM(config.n_embd, config.n_embd, batch_first=True)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        begins: Bool[Tensor, "b t"] | None,
        cache: StateCache | None,
    ) -> Float[Tensor, "b t c"]:
        before = None if cache is None else cache.states.get(self.layer)
        low = x.dtype != torch.float32
        with torch.autocast(x.device.type, x.dtype, enabled=low):  # torch's own layer: weights too
            y, after = read_documents(self.lstm, self.norm(x), begins, before)
        if cache is not None:
            cache.states[self.layer] = after
        return x + dropout(y, self.dropout, self.training)


def read_documents(
    lstm: nn.LSTM,
    x: Float[Tensor, "b t c"],
    begins: Bool[Tensor, "b t"] | None,
    before: State | None,
) -> tuple[Float[Tensor, "b t c"], State]:
    """Outputs, and each row's last state; where a document begins, the state is zero again.

    Each document is a sequence of its own, so that those of a row are read side by side.
    """
    if begins is None or not begins.any():
        return lstm(x, before)
    first = begins.clone()
    first[:, 0] = True  # a row also begins with the rest of a document
    starts = first.flatten().nonzero()[:, 0]  # (N,)
    lengths = starts.diff(append=starts.new_tensor([first.numel()]))
    documents = x.flatten(0, 1).split(lengths.tolist())
    packed = pack_sequence(list(documents), enforce_sorted=False)
    if before is not None:
        fresh = begins.flatten()[starts]
        rows = (starts // x.shape[1]).masked_fill(fresh, 0)
        before = tuple(part[:, rows].masked_fill(fresh[:, None], 0) for part in before)  # type: ignore[assignment]
    packed, after = lstm(packed, before)
    padded, _ = pad_packed_sequence(packed, batch_first=True)  # (N, longest, C)
    real = torch.arange(padded.shape[1], device=x.device) < lengths[:, None]
    last = first.sum(1).cumsum(0) - 1  # (B,) the last document of each row
    return padded[real].view_as(x), (after[0][:, last], after[1][:, last])


class RecurrentBackbone(Backbone):
    """By LSTM layers, which take the place of the transformer's blocks."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size, LSTMBlock)

    def forward(
        self,
        ids: Int[Tensor, "b t"],
        positions: Int[Tensor, "b t"] | None = None,
        mask: Bool[Tensor, "b 1 t s"] | None = None,
        cache: StateCache | None = None,
    ) -> Float[Tensor, "b t c"]:
        """Position 0 begins a document, which says all that `mask` says: it is not looked at."""
        begins = None if positions is None else positions == 0
        return self.through_blocks(self.embed(ids), begins, cache)


def is_recurrent(model: nn.Module) -> bool:
    """Whether the model is on a recurrent backbone."""
    return any(isinstance(module, RecurrentBackbone) for module in model.modules())


def initialise_lstm(name: str, parameter: nn.Parameter, generator: torch.Generator) -> None:
    """N(0, 1/3C), the variance of torch's own; biases 0, but 1 for the forget gates.

    (Jozefowicz et al. 2015: without it a new network forgets too fast to learn to remember.)
    """
    width = parameter.shape[0] // 4  # of the gates input, forget, cell, output
    if parameter.dim() == 2:
        nn.init.normal_(parameter, std=1 / math.sqrt(3 * width), generator=generator)
        return
    nn.init.zeros_(parameter)
    if "bias_ih" in name:
        nn.init.ones_(parameter.data[width : 2 * width])
