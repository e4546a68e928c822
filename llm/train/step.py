"""One optimizer step, and one pass over validation data."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from llm.config.train import TrainConfig
from llm.data.batch import Batch
from llm.errors import TrainingError
from llm.train.distributed import Ranks
from llm.train.precision import autocast

# Sums over the units of a micro-batch, by name; "loss" carries the gradient.
LossFn = Callable[[nn.Module, Batch], dict[str, Tensor]]


def train_step(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    loss_fn: LossFn,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    config: TrainConfig,
    ranks: Ranks,
) -> dict[str, float]:
    """Update the weights once; returns means over the step's units, and the gradient norm.

    Every unit weighs the same, on whatever rank and in whatever micro-batch it sits.
    Raises TrainingError before the update when the loss or the gradient norm is not finite.
    """
    own_units = torch.tensor(float(sum(batch.units for batch in micro_batches)))
    units = ranks.sum(own_units.to(ranks.device)).item()
    sums: list[dict[str, Tensor]] = []
    for index, batch in enumerate(micro_batches):
        last = index == len(micro_batches) - 1
        with ranks.accumulate(model, last=last):
            with autocast(config.precision, ranks.device):
                terms = loss_fn(model, batch)
            # DDP averages gradients over ranks; times the number of ranks makes that a sum.
            scaler.scale(terms["loss"] * (ranks.size / units)).backward()
        sums.append({name: value.detach() for name, value in terms.items()})
    means = _means(sums, units, ranks)
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), config.optim.grad_clip).item()
    _require_finite(means["loss"], norm, scaler)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return means | {"grad_norm": norm}


@torch.no_grad()
def validate(
    model: nn.Module,
    batches: Iterable[Batch],
    loss_fn: LossFn,
    config: TrainConfig,
    ranks: Ranks,
) -> dict[str, float]:
    """Means over the units of this rank's share of batches and the others'."""
    model.eval()
    sums, units = [], torch.zeros((), device=ranks.device)
    for batch in batches:
        batch = batch.to(ranks.device)
        with autocast(config.precision, ranks.device):
            sums.append(loss_fn(model, batch))
        units += batch.units
    model.train()
    return _means(sums, ranks.sum(units).item(), ranks)


def _means(sums: list[dict[str, Tensor]], units: float, ranks: Ranks) -> dict[str, float]:
    names = list(sums[0])
    stacked = torch.stack(
        [torch.stack([terms[name].float() for terms in sums]).sum() for name in names]
    )
    return dict(zip(names, (ranks.sum(stacked) / units).tolist(), strict=True))


def _require_finite(loss: float, norm: float, scaler: torch.amp.GradScaler) -> None:
    if not math.isfinite(loss):
        raise TrainingError(f"loss={loss} is not finite; lower optim.lr or use precision fp32")
    if (
        not math.isfinite(norm) and not scaler.is_enabled()
    ):  # the fp16 scaler skips such a step itself
        raise TrainingError(
            f"gradient norm={norm} is not finite; lower optim.lr or use precision fp32"
        )
