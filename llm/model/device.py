"""Where a model runs."""

import os

import torch

from llm.errors import ConfigError


def pick_device(device: str) -> torch.device:
    """`auto` is this process's CUDA device where there is one; ConfigError when `cuda` is not there."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no CUDA device; use device=auto or cpu")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
