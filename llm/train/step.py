"""One optimizer step, and one pass over validation data."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from llm.config.train import TrainConfig
from llm.data.batch import Batch
from llm.train.distributed import Ranks
from llm.train.precision import computing
from llm.train.state import State
from llm.train.watch import is_due, layer_norms

# Sums over the units of a micro-batch, by name; "loss", and "penalty" where there is one, carry
# the gradient.
LossFn = Callable[[nn.Module, Batch], dict[str, Tensor]]


def train_step(
    model: nn.Module,
    micro_batches: Sequence[Batch],
    loss_fn: LossFn,
    state: State,
    config: TrainConfig,
    ranks: Ranks,
) -> dict[str, float]:
    """Update the weights once; returns means over the step's units, and the gradient norm before
    clipping, by layer as well when that is due.

    Every unit weighs the same, on whatever rank and in whatever micro-batch it sits. What is
    random (dropout) depends on the seed, the step and the micro-batch alone. The weights stay
    as they are when the guard does not accept the step, or raises TrainingError.
    """
    optimizer, scaler, guard, step = state.optimizer, state.scaler, state.guard, state.step
    masters = state.masters
    own_units = torch.tensor(float(sum(batch.units for batch in micro_batches)))
    units = ranks.sum(own_units.to(ranks.device)).item()
    sums: list[dict[str, Tensor]] = []
    for index, batch in enumerate(micro_batches):
        last = index == len(micro_batches) - 1
        if last and ranks.size > 1:
            masters.hand_out()
        torch.manual_seed(_seed(config.seed, step, ranks.rank + index * ranks.size))
        with ranks.accumulate(model, last=last), computing(model, config.precision):
            terms = loss_fn(model, batch)
            objective = terms["loss"] + terms["penalty"] if "penalty" in terms else terms["loss"]
            # DDP averages gradients over ranks; times the number of ranks makes that a sum.
            scaler.scale(objective * (ranks.size / units)).backward()
        masters.collect()
        sums.append({name: value.detach() for name, value in terms.items()})
    means = _means(sums, units, ranks)
    scaler.unscale_(optimizer)
    trained = masters.parameters
    by_layer = layer_norms(trained) if is_due(config.grad_norm_interval, step + 1) else {}
    norm = ranks.clip(trained.values(), config.optim.grad_clip)
    if guard.accepts(means["loss"], norm, scaled=scaler.is_enabled()):
        scaler.step(optimizer)
        masters.refresh()
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    norms = {"grad_norm": norm} | {f"grad_norm/{layer}": value for layer, value in by_layer.items()}
    return means | norms | ({"skipped": guard.skipped} if guard.is_on else {})


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
        with computing(model, config.precision):
            terms = loss_fn(model, batch)
        sums.append(terms if batch.units else {k: torch.zeros_like(v) for k, v in terms.items()})
        units += batch.units
    model.train()
    return _means(sums, ranks.sum(units).item(), ranks)


def _means(sums: list[dict[str, Tensor]], units: float, ranks: Ranks) -> dict[str, float]:
    names = list(sums[0])
    stacked = torch.stack(
        [torch.stack([terms[name].float() for terms in sums]).sum() for name in names]
    )
    return dict(zip(names, (ranks.sum(stacked) / units).tolist(), strict=True))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0])
