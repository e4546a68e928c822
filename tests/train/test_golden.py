"""Golden per-step losses of real configurations: a refactor reproduces them, or it changed arithmetic.

To 1e-4, for another CPU's products round differently.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llm.config.base import parse_yaml, validate
from llm.config.params import Params
from llm.config.presets import apply_preset, preset_names
from llm.data.batch import Batch
from llm.model.flops import flops_per_token
from llm.model.transformer import LanguageModel, initialise
from llm.train.distributed import ranks
from llm.train.loop import Job, train
from llm.train.next_token import next_token_loss
from tests.conftest import ROOT

VOCAB, STEPS = 512, 8

SIZES = ("block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "n_inner")
GOLDEN = {
    "smoke": [6.25231, 6.07759, 5.85183, 5.61622, 5.34461, 5.14089, 5.02679, 4.95272],
    "default": [6.29096, 5.75343, 5.15090, 4.50297, 3.89911, 3.48300, 3.22393, 3.10323],
    "gpt2-124m": [6.25148, 6.18764, 6.13141, 6.07008, 5.98089, 5.93435, 5.92444, 5.89546],
    "llama": [6.25318, 6.16425, 6.05632, 5.97110, 5.87930, 5.81314, 5.78731, 5.76039],
    "qwen3": [6.25035, 6.15181, 6.05014, 5.96475, 5.85644, 5.79561, 5.78430, 5.75257],
    "lstm": [6.25667, 6.16741, 6.08721, 6.00665, 5.94102, 5.90102, 5.86892, 5.85415],
}


ADAMW = {"optimizer": "adamw", "lr": 2.5e-3, "schedule": "cosine"}
ADAMW |= {"min_lr_frac": 0.1, "warmup_frac": 0.1, "decay_frac": 0.2}


class Walks:
    """Noisy arithmetic progressions modulo the vocabulary: next tokens that can be learnt."""

    def __init__(self, n_steps: int, micro_batch_size: int, block_size: int) -> None:
        self.n_steps, self.micros_per_step = n_steps, 1
        self.shape = (micro_batch_size, block_size + 1)

    def micro_batch(self, step: int, index: int) -> Batch:
        draws = np.random.Generator(np.random.PCG64([7, step, index]))
        steps = draws.integers(1, 4, size=self.shape).cumsum(1)
        ids = torch.from_numpy((steps + draws.integers(VOCAB, size=(self.shape[0], 1))) % VOCAB)
        inputs = {"ids": ids[:, :-1].contiguous(), "targets": ids[:, 1:].contiguous()}
        return Batch(inputs, units=inputs["ids"].numel(), tokens=inputs["ids"].numel())


def preset_params(preset: str) -> Params:
    text = apply_preset((ROOT / "params.yaml").read_text(), preset, ROOT / "presets")
    return validate(Params, parse_yaml(text, preset), "")


def losses(preset: str, work: Path, device: str = "cpu") -> list[float]:
    """Per-step losses of a preset's network and optimizer on the walks.

    A large preset has its parts at smoke's size; `lstm` is smoke with the recurrent baseline. Both
    learn by AdamW, as large presets do, at the rate of a small one.
    """
    params = preset_params("default" if preset == "default" else "smoke")
    config = params.pretrain.model_copy(update={"log_interval": 1, "device": device})
    model = params.model
    if preset not in ("smoke", "default"):
        optim = config.optim.model_copy(update=ADAMW)
        config = config.model_copy(update={"optim": optim, "zero_outputs": False})
    if preset == "lstm":
        model = model.model_copy(update={"kind": "lstm"})
    elif preset not in ("smoke", "default"):
        large = preset_params(preset).model
        sizes = {key: getattr(model, key) for key in SIZES}
        if large.n_kv_head == large.n_head:
            sizes["n_kv_head"] = model.n_head
        if large.head_dim:
            sizes["head_dim"] = 32  # wider than n_embd / n_head
        model = large.model_copy(update=sizes)
    network = LanguageModel(model, VOCAB)
    initialise(network, config.seed, zero_outputs=config.zero_outputs)
    data = Walks(STEPS, config.micro_batch_size, model.block_size)
    flops = flops_per_token(network, model.block_size)
    job = Job("golden", network, next_token_loss, data, [data.micro_batch(99, 0)], flops)
    with ranks(device) as own:
        outcome = train(job, config, own, work, lambda step, metrics: None)
    return [row["train/loss"] for row in outcome.history]


@pytest.mark.parametrize("preset", GOLDEN)
def test_golden_losses(preset: str, tmp_path: Path) -> None:
    assert losses(preset, tmp_path) == pytest.approx(GOLDEN[preset], abs=1e-4)


def test_every_presets_parts_have_golden_losses() -> None:
    """A preset that differs from a golden one in its sizes alone has that one's losses."""
    free = {*SIZES, "head_dim"}

    def parts(preset: str) -> dict[str, Any]:
        model = preset_params(preset).model
        return model.model_dump(exclude=free) | {
            "grouped": model.n_head > model.n_kv_head,
            "wide_heads": model.attention_width > model.n_embd,
        }

    names = preset_names(ROOT / "presets")
    golden = [parts(name) for name in names if name in GOLDEN]
    assert [name for name in names if parts(name) not in golden] == []
