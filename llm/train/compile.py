"""Whether and how the network is compiled before training."""

import logging

import torch
from torch import nn

from llm.model.recurrent import is_recurrent
from llm.model.transformer import LanguageModel

# Compiling for a CPU takes a minute or two and saves some 10 % of every step. A run of so many
# FLOPs takes over an hour on two cores, longer than ten times the compilation.
WORTH_FLOPS = 1e15

logger = logging.getLogger(__name__)


def compiles(setting: str, model: nn.Module, device: torch.device, run_flops: float) -> bool:
    """Whether to compile. auto: for a GPU always, for a CPU when the run is long enough.

    Never LSTMs, which torch leaves as they are: compiling what lies between would only take time.
    It depends on the params alone, so that the same run always does the same arithmetic.
    """
    if is_recurrent(model):
        if setting == "on":
            logger.warning("compile=on does nothing for an LSTM: torch compiles none")
        return False
    if setting != "auto":
        return setting == "on"
    return device.type == "cuda" or run_flops >= WORTH_FLOPS


def compile_whole(model: nn.Module) -> nn.Module:
    """The model, compiled but for what it says of kept positions.

    There is another number of these each time, and each would be compiled anew.
    """
    if isinstance(model, LanguageModel):
        model.loss_at = torch.compiler.disable(model.loss_at)  # type: ignore[assignment]
        model.logps_at = torch.compiler.disable(model.logps_at)  # type: ignore[assignment]
    whole = torch.compile(model)
    assert isinstance(whole, nn.Module)
    return whole
