"""What a step is said to need, against what torch keeps and what a process becomes."""

import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from llm.config.model import ModelConfig
from llm.config.params import load_params
from llm.config.sizes import block_parameter_count
from llm.config.train import LaunchConfig, TrainConfig
from llm.model import causal, cross_entropy
from llm.model.mask import document_mask
from llm.model.transformer import LanguageModel
from llm.plan import memory
from llm.plan.fit import CPU_WASTE
from llm.plan.memory import Memory, step_memory
from llm.train.masters import MasterWeights
from llm.train.optimizer import build_optimizer, parts
from llm.train.precision import computing
from llm.train.recompute import recompute
from tests.conftest import ROOT
from tests.shapes import GPT2, QWEN3, shape

PARAMS = load_params(ROOT / "params.yaml")
VOCAB_SIZE, ROWS = 301, 4
WIDE = {"n_embd": 64, "n_inner": 160, "n_layer": 3}


def launch(**changes: Any) -> LaunchConfig:
    return PARAMS.launch.model_copy(update=changes)


def pretrain(**changes: Any) -> TrainConfig:
    return PARAMS.pretrain.model_copy(update={"micro_batch_size": ROWS} | changes)


def said(
    model: ModelConfig,
    config: TrainConfig,
    launch: LaunchConfig = PARAMS.launch,
    vocab_size: int = VOCAB_SIZE,
    micros: int = 1,
) -> Memory:
    return step_memory(
        model,
        vocab_size,
        config,
        launch,
        length=model.block_size,
        micros=micros,
        device="cpu",
    )


def kept(model: ModelConfig, precision: str, mode: str, *, documents: bool = False) -> int:
    """Bytes that torch keeps for backward of the blocks and the last norm, the weights apart."""
    network = LanguageModel(model, VOCAB_SIZE)
    MasterWeights(network, in_bf16=precision == "bf16_weights")
    recompute(network, mode)
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    found: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    ids = torch.ones(ROWS, model.block_size, dtype=torch.long)
    saving = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    positions = torch.arange(model.block_size).remainder(20).expand_as(ids) if documents else None
    mask = None if positions is None else document_mask(positions)
    with saving, computing(network, precision):
        network.backbone(ids, positions, mask)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "bf16_weights"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        GPT2,
        QWEN3,
        {"n_kv_head": 4},
        GPT2 | {"feed_forward": "relu"},
        GPT2 | {"feed_forward": "relu2", "norm": "rmsnorm"},
        GPT2 | {"dropout": 0.1},
        {"attention": "sliding_window", "window": 16},
        {"attention": "sliding_window", "window": 16, "dropout": 0.1, "block_size": 300},
        {"attention_softcap": 5.0},
        {"attention_softcap": 5.0, "attention": "sliding_window", "window": 16},
    ],
)
def test_activations_are_what_torch_keeps(changes: dict[str, Any], precision: str) -> None:
    """But for what is passed on besides, a block's feed-forward; to a tenth."""
    model, config = shape(**(WIDE | changes)), pretrain(precision=precision)
    number = 4 if precision == "fp32" else 2
    passed = memory._inner(model) * number * ROWS * model.block_size
    hidden = 2 * model.n_embd * number * ROWS * model.block_size
    found = said(model, config).activations - passed + hidden
    assert found == pytest.approx(kept(model, precision, "none"), rel=0.1)


def test_recomputed_blocks_keep_their_inputs_and_one_block_at_work() -> None:
    model = shape(**WIDE)
    whole = said(model, pretrain())
    full = said(model, pretrain(), launch(recompute="full"))
    selective = said(model, pretrain(), launch(recompute="selective"))
    assert full.activations < selective.activations < whole.activations
    deeper = said(model.model_copy(update={"n_layer": 9}), pretrain(), launch(recompute="full"))
    inputs = kept(model.model_copy(update={"n_layer": 9}), "fp32", "full")
    inputs -= kept(model, "fp32", "full")
    assert deeper.activations - full.activations == inputs


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_weights_and_optimizer_are_those_of_the_network(optimizer: str) -> None:
    config = pretrain(optim=PARAMS.pretrain.optim.model_copy(update={"optimizer": optimizer}))
    model = LanguageModel(shape(), VOCAB_SIZE)
    found = said(shape(), config)
    weights = 4 * sum(p.numel() for p in model.parameters())
    model(torch.ones(1, 4, dtype=torch.long)).sum().backward()
    built = build_optimizer(model, config.optim)
    built.step()
    states = [state for part in parts(built) for state in part.state.values()]
    held = sum(4 * v.numel() for state in states for v in state.values() if v.dim())
    assert found.weights == found.gradients == weights
    assert found.optimizer == pytest.approx(held, rel=0.02)  # norms and biases of Muon have two
    assert found.snapshot == found.weights + found.optimizer
    assert found.states == 2 * weights + found.optimizer


def test_rows_of_logits_are_those_of_the_loss() -> None:
    assert memory.ROW_BYTES == cross_entropy.ROW_BYTES
    assert memory.LEAST_ROWS == cross_entropy.LEAST_ROWS
    assert memory.TILE == causal.TILE


def test_earlier_micro_batches_leave_their_gradients() -> None:
    one, several = said(shape(), pretrain()), said(shape(), pretrain(), micros=2)
    assert several.fullest == one.fullest + one.gradients


@pytest.mark.parametrize(
    ("changes", "shards", "groups"),
    [
        ({"parallel": "ddp"}, 1, 1),
        ({"parallel": "fsdp"}, 4, 1),
        ({"parallel": "hybrid", "group_ranks": 2}, 2, 1),
        ({"parallel": "tensor", "group_ranks": 2}, 2, 2),
    ],
)
def test_what_four_processes_share_out(changes: dict, shards: int, groups: int) -> None:
    alone = said(shape(), pretrain())
    found = said(shape(), pretrain(), launch(nproc_per_node=4, **changes))
    assert found.weights == alone.weights // (shards * groups)
    assert found.snapshot == alone.snapshot // (shards * groups)
    assert (found.activations < alone.activations) == (groups > 1)
    assert (found.exchange == alone.weights) == (changes["parallel"] == "ddp")
    assert found.exchange > 0


def test_bf16_weights_are_kept_beside_their_masters_and_exchanged_as_they_are() -> None:
    """Where parts are shared out, these are the masters, and each process has one block in bf16."""
    (plain, low), (shared, shared_low) = (
        [
            said(shape(), pretrain(precision=precision), launch(nproc_per_node=4, parallel=way))
            for precision in ("bf16", "bf16_weights")
        ]
        for way in ("ddp", "fsdp")
    )
    blocks = 2 * block_parameter_count(shape())
    assert low.weights - plain.weights == plain.exchange - low.exchange == blocks
    assert (low.gradients, low.optimizer) == (plain.gradients, plain.optimizer)
    assert shared_low.weights == shared.weights
    assert shared.exchange - shared_low.exchange == 3 * blocks // shape().n_layer


def larger(stage: str) -> tuple[ModelConfig, TrainConfig, int]:
    """Some 200 MB: enough for what a process has besides not to matter; whole logits of dpo would double it."""
    model = shape(n_layer=4, n_embd=256, n_inner=704, block_size=256)
    if stage == "dpo":
        return model, PARAMS.dpo.model_copy(update={"micro_batch_size": 4}), 8192
    return model, pretrain(micro_batch_size=8), 2048


RESIDENT = r"""
import re, sys, torch
from llm.align.logps import answer_logps
from llm.model.transformer import LanguageModel
from llm.train.optimizer import build_optimizer
from tests.plan.test_memory import larger

def kib(key):
    return int(re.search(key + r":\s+(\d+)", open("/proc/self/status").read())[1])

torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), fused=True)  # loads what it needs
torch.ones(512, 512) @ torch.ones(512, 512)
shape, config, vocab_size = larger(sys.argv[1])
before = kib("VmRSS")
model = LanguageModel(shape, vocab_size)
optimizer = build_optimizer(model, config.optim)
ids = torch.ones(8, shape.block_size, dtype=torch.long)
for _ in range(2):
    if sys.argv[1] == "dpo":
        answer_logps(model, {"ids": ids, "targets": ids, "loss_mask": ids > 0}).sum().backward()
    else:
        model(ids, targets=ids)["loss"].backward()
    optimizer.step()
    optimizer.zero_grad()
print("bytes", 1024 * (kib("VmHWM") - before))
"""


@pytest.mark.parametrize("stage", ["pretrain", "dpo"])
def test_a_process_becomes_as_large_as_was_said_to_a_fifth(stage: str) -> None:
    model, config, vocab_size = larger(stage)
    command = [sys.executable, "-c", RESIDENT, stage]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    match = re.search(r"bytes (\d+)", done.stdout)
    assert match
    found = CPU_WASTE * said(model, config, vocab_size=vocab_size).fullest
    assert found == pytest.approx(int(match[1]), rel=0.2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention": "sliding_window", "window": 16},
        {"dropout": 0.1},
        {"dropout": 0.1, "attention_softcap": 5.0},
    ],
)
def test_one_mask_of_documents_serves_every_block(changes: dict[str, Any], precision: str) -> None:
    """What more blocks keep is what is said of them: no mask each, but for dropout's weights."""

    def bytes_of(n_layer: int) -> tuple[int, int]:
        """Said, and kept by torch."""
        model = shape(**(WIDE | changes | {"n_layer": n_layer, "block_size": 256}))
        config = pretrain(precision=precision, document_mask=True)
        return said(model, config).activations, kept(model, precision, "none", documents=True)

    (few, kept_few), (many, kept_many) = bytes_of(2), bytes_of(5)
    assert many - few == pytest.approx(kept_many - kept_few, rel=0.1)
