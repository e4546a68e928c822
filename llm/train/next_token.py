"""Next-token cross-entropy, for pretraining on every token and for SFT on the assistant's."""

import torch.nn.functional as F
from torch import Tensor, nn

from llm.data.batch import Batch


def next_token_loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Summed cross-entropy of the counted targets, in nats.

    `loss_mask` (B, T), where there is one, is True at the targets that count; logits
    are computed at those positions only.
    """
    targets, mask = batch.inputs["targets"], batch.inputs.get("loss_mask")
    logits = model(batch.inputs["ids"], keep=mask)  # (B, T, V) or (N, V)
    counted = targets.flatten() if mask is None else targets[mask]
    return {"loss": F.cross_entropy(logits.flatten(0, -2).float(), counted, reduction="sum")}
