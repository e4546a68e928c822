"""Ways of sharing a model out over processes: real ones, under torchrun's agent, on gloo.

Weights are equal within 5e-5, with DDP 1e-5: fp32 sums in another order. Muon's iterations are in
bf16, which rounds more: 5e-4 with DDP; with parts of a matrix 1e-2, a fifth of the way that the
weights have gone, losses within 2e-3. With bf16 weights gradients near 0 are rounded to either
side of it, and AdamW's first steps go by their sign: weights are equal within 2e-3 in the mean, a
fifth of its rate, losses within 2e-3, gradient norms within 5 %.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.shapes import LSTM
from tests.train.ranked import Case, Trained, kept, run
from tests.waiting import HANGS_S

QWEN = {"qk_norm": True, "tie_embeddings": False}
GPT2 = {"n_kv_head": 4, "norm": "layernorm", "positions": "learned", "feed_forward": "gelu"} | {
    "bias": True
}
DROPOUT = {"dropout": 0.2}
WINDOW = {"attention": "sliding_window", "window": 5}
MUON = {"optimizer": "muon"}
FSDP, TENSOR = {"parallel": "fsdp"}, {"parallel": "tensor", "group_ranks": 2}
HYBRID = {"parallel": "hybrid", "group_ranks": 2}

ON_2 = {
    "ddp": Case(),
    "ddp with muon and dropout": Case(optim=MUON, parts=DROPOUT),
    "fsdp": Case(FSDP),
    "tensor": Case(TENSOR),
    "fsdp with dropout": Case(FSDP, parts=DROPOUT),
    "tensor, Qwen3's parts, a window": Case(TENSOR, parts=QWEN | WINDOW),
    "fsdp, reward model": Case(FSDP, loss="reward"),
    "tensor, reward model": Case(TENSOR, loss="reward"),
    "fsdp, dpo": Case(FSDP, loss="dpo"),
    "tensor, dpo": Case(TENSOR, loss="dpo"),
    "ddp, lstm": Case(parts=LSTM | DROPOUT),
    "fsdp, lstm": Case(FSDP | {"recompute": "selective"}, parts=LSTM),
    "fsdp, lstm with muon": Case(FSDP, optim=MUON, parts=LSTM),
    "fsdp, lstm's reward model": Case(FSDP, loss="reward", parts=LSTM),
    "fsdp, lstm's dpo": Case(FSDP, loss="dpo", parts=LSTM),
    "ddp with bf16 weights": Case(precision="bf16_weights"),
    "fsdp with bf16 weights": Case(FSDP, precision="bf16_weights"),
    "fsdp, dpo with bf16 weights": Case(FSDP, loss="dpo", precision="bf16_weights"),
    "fsdp, computed again": Case(FSDP | {"recompute": "selective"}, parts=DROPOUT | WINDOW),
}
SAME = {  # a tensor group adds up what each has rounded to bf16: not what one process does
    "tensor in bf16": Case(TENSOR, precision="bf16"),
    "tensor with bf16 weights": Case(TENSOR, precision="bf16_weights"),
}
ON_4 = {
    "ddp on 4": Case(),
    "fsdp on 4": Case(FSDP),
    "tensor on 4": Case(TENSOR | {"group_ranks": 4}, parts={"n_kv_head": 4}),
    "hybrid": Case(HYBRID | {"recompute": "full"}),
    "tensor and fsdp": Case(TENSOR | {"recompute": "selective"}),
    "tensor and fsdp, GPT-2's parts": Case(TENSOR, parts=GPT2),
    "hybrid with muon": Case(HYBRID, optim=MUON),
}
# One run: on 4 until step 5, on 2 from step 4 until 7, on 1 from step 6; muon on parts as well.
SPLIT = {"work": "split", "optim": MUON, "n_steps": 8}
FIRST, SECOND = Case(TENSOR, until=5, **SPLIT), Case(FSDP, until=7, **SPLIT)
LAST = Case(**SPLIT)
BROKEN_OFF = {"broken off": Case(work="again", until=3), "again": Case(work="again")}  # "ddp"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all processes left: a file by the name of each case."""
    folder = tmp_path_factory.mktemp("parallel")
    on_4 = {name: replace(case, work=name) for name, case in ON_4.items()} | {"first": FIRST}
    on_2 = {name: replace(case, work=name) for name, case in (ON_2 | SAME).items()}
    on_2 |= {"second": SECOND, **BROKEN_OFF}
    given = {
        n: {name: asdict(case) for name, case in cases.items()}
        for n, cases in ((4, on_4), (2, on_2))
    }
    command = [sys.executable, "-m", "tests.train.forked_ranks", str(folder), json.dumps(given)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=HANGS_S)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Trained]:
    """What one process makes of a case, however it is shared out."""
    make = kept(lambda: tmp_path_factory.mktemp("alone"))
    return lambda case: make(replace(case, launch={}, work="", until=0))


def assert_equal(one: Trained, other: Trained, case: Case) -> None:
    (weights, history), (their_weights, their_history) = one, other
    if case.launch:
        atol, history_atol = (1e-2, 2e-3) if case.optim == MUON else (5e-5, 2e-4)
    else:
        atol, history_atol = (5e-4 if case.optim == MUON else 1e-5), 1e-4
    assert set(weights) == set(their_weights)
    for name, value in weights.items():
        torch.testing.assert_close(value, their_weights[name], atol=atol, rtol=0)
    for row, their_row in zip(history, their_history, strict=True):
        assert row == pytest.approx(their_row, abs=history_atol, rel=1e-3)


def assert_alike_in_bf16(one: Trained, other: Trained) -> None:
    (weights, history), (their_weights, their_history) = one, other
    assert set(weights) == set(their_weights)
    for name, value in weights.items():
        assert (value - their_weights[name]).abs().mean() < 2e-3
    for row, their_row in zip(history, their_history, strict=True):
        assert row == pytest.approx(their_row, abs=2e-3, rel=0.05)


@pytest.mark.parametrize("name", [*ON_2, *ON_4])
def test_every_way_computes_what_one_process_does(
    folder: Path, alone: Callable[[Case], Trained], name: str
) -> None:
    case = (ON_2 | ON_4)[name]
    expected, found = alone(case), torch.load(folder / f"{name}.pt")
    if case.precision == "bf16_weights":
        assert_alike_in_bf16(expected, found)
    else:
        assert_equal(expected, found, case)


def test_a_checkpoint_of_4_processes_resumes_on_2_and_on_1(
    folder: Path, alone: Callable[[Case], Trained], caplog
) -> None:
    kept = folder / "split"
    assert list(kept.glob("step-*/__3_0.distcp"))  # of four
    resumed = run(LAST, folder)
    assert resumed is not None
    assert "made by 2 processes; going on with 1 is equal up to rounding" in caplog.text
    assert_equal(alone(LAST), resumed, FIRST)


@pytest.mark.parametrize("names", [("ddp", "again"), tuple(SAME)])
def test_what_2_processes_go_on_with_or_have_in_bf16_is_the_same_to_the_bit(
    folder: Path, names: tuple[str, str]
) -> None:
    (weights, history), (same, same_history) = (torch.load(folder / f"{name}.pt") for name in names)
    assert history == same_history
    assert all(torch.equal(value, same[name]) for name, value in weights.items())
