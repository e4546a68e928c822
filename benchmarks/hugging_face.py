"""Hugging Face's Trainer on its own GPT-2, for benchmarks.training."""

import tempfile
import time
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from benchmarks.shapes import GPT2_SHAPE, N_SEQUENCES, VOCAB_SIZE, gpt2_weights
from llm.model.gpt2 import GPT2


class Clock(TrainerCallback):
    """Seconds, CPU seconds and loss of every step."""

    def __init__(self) -> None:
        self.step_s: list[float] = []
        self.cpu_s: list[float] = []
        self.losses: list[float] = []
        self._started, self._cpu_started = 0.0, 0.0

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started, self._cpu_started = time.perf_counter(), time.process_time()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.step_s.append(time.perf_counter() - self._started)
        self.cpu_s.append(time.process_time() - self._cpu_started)

    def on_log(self, *args: Any, logs: dict[str, float], **kwargs: Any) -> None:
        if "loss" in logs:
            self.losses.append(logs["loss"])


class Rows(torch.utils.data.Dataset):
    """The sequences of all batches, in order. The model shifts its labels itself."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.ids = torch.cat([torch.cat([ids, targets[:, -1:]], 1) for ids, targets in batches])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids, targets = self.ids[index, :-1], self.ids[index, 1:]
        return {"input_ids": ids, "shift_labels": targets, "labels": targets}


class InOrder(Trainer):
    """Trainer without its shuffle, so that everyone sees the same batches."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def train(
    batches: list[tuple[Tensor, Tensor]],
    *,
    precision: str,
    compiled: bool,
    lr: float,
    weight_decay: float,
) -> tuple[list[float], list[float], list[float]]:
    """Seconds, CPU seconds and losses of all steps."""
    config = GPT2Config(
        **{**GPT2.to_config(GPT2_SHAPE), "vocab_size": VOCAB_SIZE},
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
    )
    model = GPT2LMHeadModel(config)
    ours = gpt2_weights()
    ours.pop("head.weight")
    model.load_state_dict(GPT2.to_weights(ours), strict=False)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            max_steps=len(batches),
            per_device_train_batch_size=N_SEQUENCES,
            learning_rate=lr,
            lr_scheduler_type="constant",
            weight_decay=weight_decay,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=precision == "bf16",
            torch_compile=compiled,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,  # the shifted labels
        )
        InOrder(model, arguments, train_dataset=Rows(batches), callbacks=[clock]).train()
    return clock.step_s, clock.cpu_s, clock.losses
