"""What a step is said to need, against what torch has allocated on a GPU; and a plan's trial there."""

from typing import Any

import pytest
import torch

from llm.model.transformer import LanguageModel
from llm.plan.machine import this_machine
from llm.plan.memory import step_memory
from llm.train.optimizer import build_optimizer
from llm.train.precision import computing
from llm.train.recompute import recompute
from llm.trial import try_stage
from tests.plan.test_memory import PARAMS, launch, pretrain
from tests.shapes import GPT2, shape

pytestmark = pytest.mark.gpu

VOCAB = 8192
WIDE = {
    "n_layer": 6,
    "n_head": 8,
    "n_kv_head": 8,
    "n_embd": 512,
    "n_inner": 1408,
    "block_size": 512,
}
CASES = [
    ("fp32", "none", {}),
    ("bf16", "none", {}),
    ("bf16", "none", GPT2 | {"n_kv_head": 8, "n_inner": 2048}),
    ("bf16", "none", {"attention": "sliding_window", "window": 64}),
    ("bf16", "none", {"attention_softcap": 20.0}),
    ("bf16", "full", {}),
    ("bf16", "selective", {}),
]


@pytest.mark.parametrize(("precision", "mode", "parts"), CASES)
def test_a_step_becomes_as_large_as_was_said_to_thirty_per_cent(
    gpu: torch.device, precision: str, mode: str, parts: dict[str, Any]
) -> None:
    if gpu.type == "cpu":
        pytest.skip("torch counts no bytes on a CPU")
    model, config = shape(**(WIDE | parts)), pretrain(precision=precision, micro_batch_size=16)
    said = step_memory(
        model, VOCAB, config, launch(recompute=mode), length=512, micros=1, device="cuda"
    )
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(gpu)
    torch.cuda.reset_peak_memory_stats(gpu)
    network = LanguageModel(model, VOCAB).to(gpu)
    recompute(network, mode)
    optimizer = build_optimizer(network, config.optim)
    ids = torch.ones(16, 512, dtype=torch.long, device=gpu)
    for _ in range(2):
        with computing(network, precision):
            network(ids, targets=ids)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    found = torch.cuda.max_memory_allocated(gpu) - before
    assert said.fullest == pytest.approx(found, rel=0.3)


def test_a_plan_tries_its_steps_on_the_gpu(gpu: torch.device) -> None:
    assert (this_machine().gpus != ()) == (gpu.type == "cuda")
    speed = try_stage(PARAMS, "pretrain")
    assert 0 < speed.eval_s < speed.step_s
