import subprocess
import sys

import pytest
import torch
from torch import Tensor

from llm.model import cross_entropy
from llm.model.cross_entropy import (
    chunked_cross_entropy,
    remade_cross_entropy,
    remade_logps,
    whole_cross_entropy,
)

N, C, V = 50, 16, 30
TINY_CHUNKS = {"cpu": 1}


def draw(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N, C, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(V, C, generator=generator, requires_grad=True)
    return x, weight, torch.randint(V, (N,), generator=generator)


def whole(x: Tensor, weight: Tensor, targets: Tensor, z_loss: float, cap: float) -> dict:
    logits = x @ weight.to(x.dtype).t()
    logits = cap * torch.tanh(logits / cap) if cap else logits
    return whole_cross_entropy(logits, targets, z_loss=z_loss)


@pytest.fixture(autouse=True)
def several_chunks_and_a_rest(monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, "LEAST_ROWS", 7)
    monkeypatch.setattr(cross_entropy, "ROW_BYTES", TINY_CHUNKS)


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
@pytest.mark.parametrize("cap", [0.0, 5.0])
def test_chunks_have_the_loss_and_the_gradients_of_whole_logits(z_loss: float, cap: float) -> None:
    found, expected = [], []
    for results in (found, expected):
        x, weight, targets = draw()
        if results is found:
            terms = chunked_cross_entropy(x, weight, targets, z_loss=z_loss, softcap=cap)
        else:
            terms = whole(x, weight, targets, z_loss, cap)
        (sum(terms.values()) * 0.3).backward()  # a scale as of units and ranks
        results += [*terms.values(), x.grad, weight.grad]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
def test_logits_that_are_made_again_have_the_loss_and_the_gradients_of_whole_ones(z_loss) -> None:
    found, expected, rows = [], [], []
    for results in (found, expected):
        x, weight, targets = draw()

        def project(x: Tensor, weight: Tensor = weight) -> Tensor:
            rows.append(x.shape[0])
            return x @ weight.t()

        if results is found:
            terms = remade_cross_entropy(project, x, targets, z_loss=z_loss, vocab_size=V)
        else:
            terms = whole(x, weight, targets, z_loss, 0.0)
        (sum(terms.values()) * 0.3).backward()
        results += [*terms.values(), x.grad, weight.grad]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert sum(rows) == 2 * N
    assert max(rows) == 7


@pytest.mark.parametrize("cap", [0.0, 5.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_probabilities_are_those_of_a_whole_log_softmax(dtype: torch.dtype, cap: float) -> None:
    """With their gradients, which each row has at another scale; in bf16 to the last bit's rounding."""
    scales, rows = torch.linspace(-2, 3, N), []
    found, expected = [], []
    for results in (found, expected):
        x, weight, targets = draw(dtype)

        def project(x: Tensor, weight: Tensor = weight) -> Tensor:
            rows.append(x.shape[0])
            logits = x @ weight.to(x.dtype).t()
            return cap * torch.tanh(logits / cap) if cap else logits

        if results is found:
            logps = remade_logps(project, x, targets, vocab_size=V)
            assert rows == [7] * 7 + [1]
        else:
            whole = project(x).float().log_softmax(-1)
            logps = whole.gather(-1, targets[:, None]).squeeze(-1)
        (logps * scales).sum().backward()
        results += [logps, x.grad, weight.grad]
    torch.testing.assert_close(found[:2], expected[:2], rtol=1e-5, atol=1e-5)
    rounding = 1e-5 if dtype == torch.float32 else 0.01  # each chunk's share of it is rounded
    torch.testing.assert_close(found[2], expected[2], rtol=rounding, atol=10 * rounding)
    assert rows[8:-1] == [1] + [7] * 7  # in backward, the last first


def test_in_bf16_the_loss_is_that_of_the_rounded_logits() -> None:
    x, weight, targets = draw(torch.bfloat16)
    loss = chunked_cross_entropy(x, weight, targets, z_loss=0.0, softcap=0.0)["loss"]
    torch.testing.assert_close(loss, whole(x, weight, targets, 0, 0)["loss"], rtol=2e-3, atol=0)
    loss.backward()
    exact, exact_weight, _ = draw()
    whole(exact, exact_weight, targets, 0, 0)["loss"].backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    torch.testing.assert_close(weight.grad, exact_weight.grad, rtol=0.02, atol=0.05)


PEAK = """
import sys, torch
from llm.model.cross_entropy import chunked_cross_entropy, remade_logps, whole_cross_entropy
from llm.resident import own_peak_mib
x = torch.randn(2048, 64).bfloat16().requires_grad_()
weight = torch.zeros(131_072, 64, requires_grad=True)
targets = torch.zeros(2048, dtype=torch.int64)
before = own_peak_mib()
if sys.argv[1] == "chunked":
    loss = chunked_cross_entropy(x, weight, targets, z_loss=0.0, softcap=0.0)["loss"]
elif sys.argv[1] == "logps":
    project = lambda x: x @ weight.bfloat16().t()
    loss = remade_logps(project, x, targets, vocab_size=131_072).sum()
else:
    loss = whole_cross_entropy(x @ weight.bfloat16().t(), targets, z_loss=0.0)["loss"]
loss.backward()
print(round(own_peak_mib() - before))
"""


def test_logits_of_a_128k_vocabulary_never_exist_whole() -> None:
    """2,048 tokens: whole logits in bf16 alone take 512 MiB, and 1 GiB each in fp32 and as gradient."""
    peak_mib = {}
    for way in ("chunked", "logps", "whole"):
        command = [sys.executable, "-c", PEAK, way]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak_mib[way] = int(done.stdout)
    assert peak_mib["chunked"] < 512
    assert peak_mib["logps"] < 768  # some rows' in fp32 three times
    assert peak_mib["whole"] > 2560
