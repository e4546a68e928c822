"""Whether the network is compiled before training."""

import torch

# Compiling for a CPU takes a minute or two and saves some 10 % of every step. A run of so many
# FLOPs takes over an hour on two cores, longer than ten times the compilation.
WORTH_FLOPS = 1e15


def compiles(setting: str, device: torch.device, run_flops: float) -> bool:
    """Whether to compile. auto: for a GPU always, for a CPU when the run is long enough.

    It depends on the params alone, so that the same run always does the same arithmetic.
    """
    if setting != "auto":
        return setting == "on"
    return device.type == "cuda" or run_flops >= WORTH_FLOPS
