"""Training on a GPU is training on a CPU within rounding, whatever is trained, and however it is shared out."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from llm.errors import ConfigError
from llm.model.transformer import LanguageModel
from llm.train.precision import prepare
from tests.conftest import ROOT
from tests.shapes import GPT2, LSTM, QWEN3, shape
from tests.train import test_golden, toy
from tests.train.ranked import Case, Trained, kept, run

pytestmark = pytest.mark.gpu

MUON = {"optimizer": "muon"}
WIDE = {"n_embd": 256, "n_inner": 512}  # more than one of DDP's buckets
FSDP = {"parallel": "fsdp"}
AGAIN = {"recompute": "selective"}
# Losses of four steps are as near as that: products are summed up in another order.
FP32, ROUNDED = 5e-4, 0.03
CASES = {
    "fp32": (Case(), FP32),
    "bf16": (Case(precision="bf16"), ROUNDED),
    "bf16 weights": (Case(precision="bf16_weights"), ROUNDED),
    "fp16, its loss scaled": (Case(precision="fp16"), ROUNDED),
    "muon": (Case(optim=MUON), 5e-3),
    "muon in bf16": (Case(optim=MUON, precision="bf16"), ROUNDED),
    "computed again": (Case(AGAIN), FP32),
    "computed again in bf16": (Case(AGAIN, precision="bf16"), ROUNDED),
    "GPT-2's parts": (Case(parts=GPT2), FP32),
    "Qwen3's parts in bf16": (Case(parts=QWEN3, precision="bf16"), ROUNDED),
    "a window in bf16": (
        Case(parts={"attention": "sliding_window", "window": 5}, precision="bf16"),
        ROUNDED,
    ),
    "soft caps": (Case(parts={"attention_softcap": 5.0, "logit_softcap": 15.0}), FP32),
    "an LSTM": (Case(parts=LSTM), 5e-3),  # cuDNN multiplies in TF32
    "an LSTM in fp16": (Case(parts=LSTM, precision="fp16"), ROUNDED),
    "reward": (Case(loss="reward"), FP32),
    "dpo": (Case(loss="dpo"), FP32),
    "dpo in bf16": (Case(loss="dpo", precision="bf16"), ROUNDED),
    "compiled": (Case(compile="on"), FP32),
    "compiled in bf16": (Case(compile="on", precision="bf16"), ROUNDED),
}


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Trained]:
    """What a CPU makes of a case, in fp32 and eagerly."""
    make = kept(lambda: tmp_path_factory.mktemp("cpu"))
    return lambda case: make(Case(loss=case.loss, optim=case.optim, parts=case.parts))


def assert_near(found: Trained, expected: Trained, tolerance: float) -> None:
    """Every loss of the curve, of training and of validation."""
    for row, wanted in zip(found[1], expected[1], strict=True):
        losses = {name: value for name, value in wanted.items() if name.endswith("/loss")}
        assert losses == pytest.approx({name: row[name] for name in losses}, abs=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_trains_as_a_cpu_does(
    gpu: torch.device, on_cpu: Callable[[Case], Trained], tmp_path: Path, name: str
) -> None:
    case, tolerance = CASES[name]
    if gpu.type == "cpu" and case.parts == LSTM and case.precision == "fp16":
        pytest.skip("a CPU has no LSTM in fp16")
    found = run(replace(case, device=gpu.type), tmp_path)
    assert found is not None
    assert {value.dtype for value in found[0].values()} == {torch.float32}
    assert_near(found, on_cpu(case), tolerance)


@pytest.mark.parametrize("preset", test_golden.GOLDEN)
def test_golden_losses_are_those_of_a_gpu(gpu: torch.device, tmp_path: Path, preset: str) -> None:
    found = test_golden.losses(preset, tmp_path, gpu.type)
    assert found == pytest.approx(test_golden.GOLDEN[preset], abs=0.03)


def test_dropout_on_a_gpu_follows_the_seed(gpu: torch.device, tmp_path: Path) -> None:
    """The same masks in every run of it, and the loss falls all the same."""
    settings = toy.config(device=gpu.type, precision="bf16")
    one, other = (
        toy.run(tmp_path / name, toy.Patterns(40, 1, 4), settings, dropout=0.1)[1].history
        for name in ("one", "other")
    )
    assert [row["train/loss"] for row in one] == pytest.approx(
        [row["train/loss"] for row in other], abs=0.02
    )
    assert one[-1]["train/loss"] < one[0]["train/loss"] - 0.3


def test_float8_trains_as_bf16_does(gpu: torch.device, tmp_path: Path) -> None:
    parts = {"n_head": 4, "n_kv_head": 4, "n_embd": 128, "n_inner": 256}
    try:
        prepare(LanguageModel(shape(**parts), 64).to(gpu), "float8", gpu)
    except ConfigError as error:
        pytest.skip(str(error))
    histories = {}
    for precision in ("bf16", "float8"):
        settings = toy.config(device=gpu.type, precision=precision)
        data = toy.Patterns(40, 1, 4)
        histories[precision] = toy.run(tmp_path / precision, data, settings, **parts)[1].history
    for row, wanted in zip(histories["float8"], histories["bf16"], strict=True):
        assert row["train/loss"] == pytest.approx(wanted["train/loss"], abs=0.15)


@pytest.mark.parametrize("optim", [{}, MUON], ids=["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16_weights"])
@pytest.mark.parametrize(("first", "then"), [(True, True), (True, False), (False, True)])
def test_a_checkpoint_goes_on_with_a_gpu_and_without(
    gpu: torch.device,
    on_cpu: Callable[[Case], Trained],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: bool,
    then: bool,
    precision: str,
    optim: dict,
) -> None:
    """`device: auto` on a machine that has one for its first steps, for the others, or for both."""
    case = Case(optim=optim, precision=precision, device="auto" if gpu.type == "cuda" else "cpu")
    for there, until in ((first, 3), (then, 0)):
        with monkeypatch.context() as patch:
            if not there:
                patch.setattr(torch.cuda, "is_available", lambda: False)
            found = run(replace(case, until=until), tmp_path)
    assert found is not None
    assert [row["step"] for row in found[1]] == [1, 2, 3, 4]
    assert_near(found, on_cpu(case), FP32 if precision == "fp32" and not optim else ROUNDED)


def test_what_is_said_of_speed_and_memory_is_possible(gpu: torch.device, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    settings = toy.config(device=gpu.type, precision="bf16")
    model, outcome = toy.run(
        tmp_path, toy.Patterns(6, 2, 4), settings, lambda step, metrics: rows.append(dict(metrics))
    )
    weights_mb = sum(4 * p.numel() for p in model.parameters()) / 1e6
    read = [row for row in rows if "train/mfu" in row]
    assert len(read) == 6
    for row in read:
        assert 0 < row["train/mfu"] < 1
        assert row["train/tokens_per_s"] > 0
        assert row["train/memory_mb"] > 4 * weights_mb  # weights, gradients, two means
        assert math.isfinite(row["train/memory_mb"])
        if gpu.type == "cuda":
            assert row["train/memory_mb"] < torch.cuda.mem_get_info(gpu)[1] / 1e6
    assert outcome.timings["tokens_per_s"] > 0


ON_ALL = {
    "ddp": (Case(), FP32),
    "ddp in bf16": (Case(precision="bf16"), ROUNDED),
    "ddp, compiled": (Case(compile="on", parts=WIDE), 2e-3),
    "ddp with muon": (Case(optim=MUON), 5e-3),
    "ddp with bf16 weights": (Case(precision="bf16_weights"), ROUNDED),
    "fsdp": (Case(FSDP | AGAIN), FP32),
    "fsdp, compiled, in bf16": (Case(FSDP, compile="on", precision="bf16"), ROUNDED),
    "fsdp with muon": (Case(FSDP, optim=MUON), 0.01),
    "fsdp, dpo": (Case(FSDP, loss="dpo"), FP32),
}


@pytest.fixture(scope="module")
def on_all(gpu: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A process for every GPU (at most 4, which share each step's micro-batches), under torchrun's agent."""
    n = min(4, torch.cuda.device_count()) if gpu.type == "cuda" else 2
    n = 2 if n == 3 else n
    folder = tmp_path_factory.mktemp("gpus")
    cases = {
        name: asdict(replace(case, device=gpu.type, work=name))
        for name, (case, _) in ON_ALL.items()
    }
    command = [*(sys.executable, "-m", "tests.train.forked_ranks", str(folder))]
    subprocess.run([*command, json.dumps({n: cases})], check=True, cwd=ROOT)
    return folder


@pytest.mark.parametrize("name", ON_ALL)
def test_processes_with_a_gpu_each_train_as_a_cpu_does(
    on_all: Path, on_cpu: Callable[[Case], Trained], name: str
) -> None:
    case, tolerance = ON_ALL[name]
    found = torch.load(on_all / f"{name}.pt", map_location="cpu")
    assert_near(found, on_cpu(case), tolerance)
