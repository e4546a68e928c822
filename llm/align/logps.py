"""Log-probabilities of answers. Shapes: B pairs, 2B sequences, T longest sequence, N counted tokens."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from llm.data.padded import pad
from llm.data.pairs import EncodedPair


def stack_pairs(pairs: Sequence[EncodedPair]) -> tuple[dict[str, Tensor], int]:
    """`ids`, `targets`, `loss_mask` (2B, T): chosen first, then rejected; and the tokens in them.

    `loss_mask` is True where the target is an answer's token or its end.
    """
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    starts = [pair.prompt_length for pair in pairs] * 2
    masks = [
        [position >= start for position in range(1, len(row))]
        for row, start in zip(rows, starts, strict=True)
    ]
    inputs = {
        "ids": pad([row[:-1] for row in rows], 0),
        "targets": pad([row[1:] for row in rows], 0),
        "loss_mask": pad(masks, 0, torch.bool),
    }
    return inputs, sum(len(row) - 1 for row in rows)


def answer_logps(model: nn.Module, inputs: dict[str, Tensor]) -> Float[Tensor, " b2"]:
    """Log-probability of each sequence's counted targets, summed, in nats."""
    mask = inputs["loss_mask"]
    logits = model(inputs["ids"], keep=mask).float()  # (N, V)
    targets = inputs["targets"][mask]  # (N,)
    logps = logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)  # (N,)
    rows = mask.nonzero()[:, 0]  # (N,) the sequence that each counted target belongs to
    sums = torch.zeros(mask.shape[0], device=logps.device)
    return sums.index_add(0, rows, logps)


@torch.no_grad()
def token_kl(
    policy: nn.Module,
    reference: nn.Module,
    pairs: Sequence[EncodedPair],
    batch_size: int,
    device: torch.device,
) -> float:
    """KL(policy || reference) per token of the chosen answers, in nats, over whole distributions."""
    policy.eval()
    reference.eval()
    total, count = 0.0, 0
    for start in range(0, len(pairs), batch_size):
        inputs, _ = stack_pairs(pairs[start : start + batch_size])
        chosen = {name: value.chunk(2)[0].to(device) for name, value in inputs.items()}
        ids, mask = chosen["ids"], chosen["loss_mask"]
        pi = policy(ids, keep=mask).float().log_softmax(-1)  # (N, V)
        ref = reference(ids, keep=mask).float().log_softmax(-1)
        total += (pi.exp() * (pi - ref)).sum().item()
        count += int(mask.sum())
    return total / count
