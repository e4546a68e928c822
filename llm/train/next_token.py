"""Next-token cross-entropy, for pretraining on every token and for SFT on the assistant's."""

from torch import Tensor, nn

from llm.data.batch import Batch
from llm.model.mask import document_mask


def next_token_loss(model: nn.Module, batch: Batch, *, z_loss: float = 0.0) -> dict[str, Tensor]:
    """Summed cross-entropy of the counted targets, in nats.

    `loss_mask` (B, T), where there is one, is True at the targets that count; logits
    are computed at those positions only. `positions` (B, T), where there are any, restart
    at 0 with each document, and no document sees another. With `z_loss`, a penalty besides.
    """
    positions = batch.inputs.get("positions")
    return model(
        batch.inputs["ids"],
        keep=batch.inputs.get("loss_mask"),
        positions=positions,
        mask=None if positions is None else document_mask(positions),  # (B, 1, T, T)
        targets=batch.inputs["targets"],
        z_loss=z_loss,
    )
