"""Next-token cross-entropy, for pretraining on every token and for SFT on the assistant's."""

import torch.nn.functional as F
from torch import Tensor, nn

from llm.data.batch import Batch
from llm.model.mask import document_mask


def next_token_loss(model: nn.Module, batch: Batch, *, z_loss: float = 0.0) -> dict[str, Tensor]:
    """Summed cross-entropy of the counted targets, in nats.

    `loss_mask` (B, T), where there is one, is True at the targets that count; logits
    are computed at those positions only. `positions` (B, T), where there are any, restart
    at 0 with each document, and no document sees another. With `z_loss`, a penalty besides.
    """
    targets, mask = batch.inputs["targets"], batch.inputs.get("loss_mask")
    positions = batch.inputs.get("positions")
    seen = None if positions is None else document_mask(positions)  # (B, 1, T, T)
    logits = model(batch.inputs["ids"], keep=mask, positions=positions, mask=seen)
    # (B, T, V) or (N, V)
    counted = targets.flatten() if mask is None else targets[mask]
    logits = logits.flatten(0, -2).float()
    loss = {"loss": F.cross_entropy(logits, counted, reduction="sum")}
    if z_loss:  # log² of the softmax's denominator (Chowdhery et al. 2022, section 5)
        loss["penalty"] = z_loss * logits.logsumexp(-1).square().sum()
    return loss
