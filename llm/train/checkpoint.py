"""A run in progress, written at once or not at all, and continued as if never interrupted."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm.errors import CheckpointError
from llm.files import write_file
from llm.train.guard import StepGuard

FILE = "checkpoint.pt"


@dataclass
class Progress:
    """What the loop has done: the number of finished steps, and the curve so far."""

    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)  # one row per logged step


def save_checkpoint(
    work: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    guard: StepGuard,
    progress: Progress,
) -> None:
    """Replace the checkpoint in `work` by weights, optimizer, loss scale, guard, generators, progress.

    The data's position is the step, and `work` is keyed by the content of the stage's
    params and inputs, so neither needs storing.
    """
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),
        "guard": guard.state_dict(),
        "rng_cpu": torch.get_rng_state(),
        "rng_cuda": torch.cuda.get_rng_state_all(),
        "step": progress.step,
        "history": progress.history,
    }
    # to a file object: torch's own writer would hide why it could not write
    with write_file(work / FILE) as partial, partial.open("wb") as file:
        torch.save(state, file)


def load_checkpoint(
    work: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    guard: StepGuard,
    device: torch.device,
) -> Progress:
    """Continue from the checkpoint in `work`; from the start when there is none.

    Raises CheckpointError when the file is damaged.
    """
    path = work / FILE
    if not path.is_file():
        return Progress()
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        guard.load_state_dict(state["guard"])
    except (RuntimeError, KeyError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it to start again") from None
    torch.set_rng_state(state["rng_cpu"].cpu())
    if state["rng_cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([rng.cpu() for rng in state["rng_cuda"]])
    return Progress(state["step"], state["history"])
