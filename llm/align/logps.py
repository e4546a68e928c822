"""Log-probabilities of answers.

Shapes: B pairs, 2B sequences, T longest sequence, N counted tokens, R of them at a time, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from llm.data.padded import pad
from llm.data.pairs import EncodedPair
from llm.model.cross_entropy import rows_at_a_time
from llm.model.transformer import LanguageModel


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
    logps = model(inputs["ids"], keep=mask, targets=inputs["targets"], logps=True)  # (N,)
    rows = mask.nonzero()[:, 0]  # (N,) the sequence that each counted target belongs to
    sums = torch.zeros(mask.shape[0], device=logps.device)
    return sums.index_add(0, rows, logps)


@torch.no_grad()
def token_kl(
    policy: LanguageModel,
    reference: LanguageModel,
    pairs: Sequence[EncodedPair],
    batch_size: int,
    device: torch.device,
) -> float:
    """KL(policy || reference) per token of the chosen answers, in nats, over whole distributions.

    Some rows of them exist at a time: a sequence whose rows are parted is looked at again.
    """
    n_rows = rows_at_a_time(device.type, policy.vocab_size)
    policy.eval()
    reference.eval()
    total, count = 0.0, 0
    for start in range(0, len(pairs), batch_size):
        inputs, _ = stack_pairs(pairs[start : start + batch_size])
        chosen = {name: value.chunk(2)[0].to(device) for name, value in inputs.items()}
        for mask in _parts(chosen["loss_mask"], n_rows):
            there = mask.any(1)
            ids, keep = chosen["ids"][there], mask[there]
            pi = policy(ids, keep=keep).float().log_softmax(-1)  # (R, V)
            ref = reference(ids, keep=keep).float().log_softmax(-1)
            total += (pi.exp() * (pi - ref)).sum().item()
            count += pi.shape[0]
    return total / count


def _parts(mask: Bool[Tensor, "b t"], n_rows: int) -> Iterator[Bool[Tensor, "b t"]]:
    """Masks of at most `n_rows` True places each, in order, that make up `mask`."""
    for places in mask.nonzero().split(n_rows):
        part = torch.zeros_like(mask)
        part[places[:, 0], places[:, 1]] = True
        yield part
