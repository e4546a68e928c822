"""Direct preference optimisation (Rafailov et al. 2023). Shapes: B pairs, T longest sequence."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from llm.align.logps import answer_logps, stack_pairs
from llm.data.batch import Batch
from llm.data.pairs import EncodedPair
from llm.train.step import LossFn


@dataclass(frozen=True)
class ReferencedPair:
    """A pair with the frozen reference model's log-probabilities of its answers, in nats."""

    pair: EncodedPair
    ref_chosen: float
    ref_rejected: float


def dpo_loss(
    pi_chosen: Float[Tensor, " b"],
    pi_rejected: Float[Tensor, " b"],
    ref_chosen: Float[Tensor, " b"],
    ref_rejected: Float[Tensor, " b"],
    *,
    beta: float,
) -> Float[Tensor, " b"]:
    """DPO loss of each preference pair, in nats (Rafailov et al. 2023, eq. 7).

    Inputs are log-probabilities summed over response tokens only, prompt and padding
    masked out, under the policy (pi) and the frozen reference (ref).
    """
    margin = (pi_chosen - ref_chosen) - (pi_rejected - ref_rejected)  # (B,) nats
    return -F.logsigmoid(beta * margin)


def make_dpo_loss(beta: float) -> LossFn:
    """The loop's loss: sums over pairs of loss, accuracy, margin and the rewards of eq. 5."""

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        pi_chosen, pi_rejected = answer_logps(model, batch.inputs).chunk(2)
        ref_chosen, ref_rejected = batch.inputs["ref_chosen"], batch.inputs["ref_rejected"]
        losses = dpo_loss(pi_chosen, pi_rejected, ref_chosen, ref_rejected, beta=beta)
        chosen = beta * (pi_chosen - ref_chosen).detach()
        rejected = beta * (pi_rejected - ref_rejected).detach()
        return {
            "loss": losses.sum(),
            "reward_accuracy": (chosen > rejected).float().sum(),
            "reward_margin": (chosen - rejected).sum(),
            "reward_chosen": chosen.sum(),
            "reward_rejected": rejected.sum(),
        }

    return loss


def collate_referenced(items: Sequence[ReferencedPair]) -> Batch:
    """Chosen sequences in the first B rows, rejected in the last, with the reference's numbers."""
    inputs, tokens = stack_pairs([item.pair for item in items])
    inputs["ref_chosen"] = torch.tensor([item.ref_chosen for item in items])
    inputs["ref_rejected"] = torch.tensor([item.ref_rejected for item in items])
    return Batch(inputs, units=len(items), tokens=tokens)


@torch.no_grad()
def reference_logps(
    model: nn.Module, pairs: Sequence[EncodedPair], batch_size: int, device: torch.device
) -> list[ReferencedPair]:
    """The pairs with the reference's log-probabilities: computed once, so that it needn't stay loaded."""
    referenced: list[ReferencedPair | None] = [None] * len(pairs)
    order = sorted(
        range(len(pairs)), key=lambda i: pairs[i].length
    )  # alike lengths, little padding
    for start in range(0, len(pairs), batch_size):
        chosen = order[start : start + batch_size]
        inputs, _ = stack_pairs([pairs[i] for i in chosen])
        logps = answer_logps(model, {key: value.to(device) for key, value in inputs.items()})
        good, bad = logps.cpu().chunk(2)
        for row, index in enumerate(chosen):
            referenced[index] = ReferencedPair(pairs[index], good[row].item(), bad[row].item())
    return [item for item in referenced if item is not None]
