"""Precision of the matrix products; weights and optimizer state stay fp32."""

from contextlib import AbstractContextManager, nullcontext

import torch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Run matrix products in bf16 or fp16 (Micikevicius et al. 2018); nothing for fp32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, DTYPES[precision])


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Dynamic loss scaling, which only fp16 needs: its smallest gradients would become zero."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
