"""Every part of the network computes on a GPU what it does on a CPU, within rounding."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from llm.model import cross_entropy
from llm.model.cross_entropy import chunked_cross_entropy
from llm.model.mask import document_mask
from llm.model.transformer import LanguageModel, initialise
from llm.train.muon import BatchedMuon
from llm.train.precision import computing
from tests.shapes import GPT2, LSTM, QWEN3, shape

pytestmark = pytest.mark.gpu

VOCAB = 100
PARTS = {
    "Llama's": {},
    "GPT-2's": GPT2,
    "Qwen3's": QWEN3,
    "relu2": {"feed_forward": "relu2", "positions": "sinusoidal"},
    "window": {"attention": "sliding_window", "window": 7},
    "strided": {"attention": "strided", "window": 7},
    "soft caps": {"attention_softcap": 5.0, "logit_softcap": 15.0},
    "window and soft cap": {
        "attention": "sliding_window",
        "window": 7,
        "attention_softcap": 5.0,
    },
    "LSTM": LSTM,
}
TOLERANCES = {"fp32": 1e-3, "bf16": 0.03, "fp16": 0.01}  # of the loss, and of gradients as a whole


def build(parts: dict[str, Any]) -> LanguageModel:
    model = LanguageModel(shape(**parts), VOCAB)
    initialise(model, 1)
    return model


def mean_loss(model: LanguageModel, *, documents: bool) -> Tensor:
    """Of three rows of 40 tokens, on the model's device; its gradients are in the weights."""
    device = model.head.weight.device
    ids = torch.randint(VOCAB, (3, 41), generator=torch.Generator().manual_seed(1)).to(device)
    positions = torch.arange(40, device=device).remainder(15).expand(3, 40) if documents else None
    mask = None if positions is None else document_mask(positions)
    terms = model(ids[:, :-1], positions=positions, mask=mask, targets=ids[:, 1:], z_loss=1e-3)
    loss = sum(terms.values()) / 120
    assert isinstance(loss, Tensor)
    loss.backward()
    return loss.detach().cpu()


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("documents", [False, True], ids=["whole", "documents"])
@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", PARTS)
def test_loss_and_gradients_are_those_of_a_cpu_in_fp32(
    gpu: torch.device, name: str, precision: str, documents: bool
) -> None:
    if documents and name == "LSTM":
        pytest.skip("an LSTM has no mask of documents")
    exact = build(PARTS[name])
    model = copy.deepcopy(exact).to(gpu)
    expected = mean_loss(exact, documents=documents)
    with computing(model, precision):
        found = mean_loss(model, documents=documents)
    tolerance = max(TOLERANCES[precision], 0.01 * (name == "LSTM"))  # cuDNN multiplies in TF32
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)
    error = (gradients(model) - gradients(exact)).norm() / gradients(exact).norm()
    assert error < 3 * tolerance


@pytest.mark.parametrize("parts", [{}, GPT2, QWEN3])
def test_attention_without_a_mask_is_the_flash_kernels(gpu: torch.device, parts: dict) -> None:
    """torch raises where no other is allowed and that one cannot be had."""
    model = build(parts).to(gpu)
    with computing(model, "bf16"), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        loss = mean_loss(model, documents=False)
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["Llama's", "window", "strided"])
def test_attention_under_a_mask_is_fused_whatever_heads_share(gpu: torch.device, name: str) -> None:
    model, kernel = build(PARTS[name]).to(gpu), SDPBackend.EFFICIENT_ATTENTION
    if gpu.type == "cpu":
        kernel = SDPBackend.FLASH_ATTENTION
    with computing(model, "bf16"), sdpa_kernel(kernel):
        loss = mean_loss(model, documents=True)
    assert loss.isfinite()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_by_chunks_is_that_of_a_cpu(
    gpu: torch.device, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_entropy, "LEAST_ROWS", 7)
    monkeypatch.setattr(cross_entropy, "ROW_BYTES", {"cpu": 1, "cuda": 1})
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(50, 16, generator=generator)
    weight = torch.randn(30, 16, generator=generator)
    targets = torch.randint(30, (50,), generator=generator)
    results = []
    for device, kind in ((torch.device("cpu"), torch.float32), (gpu, dtype)):
        own_x = x.detach().to(device, kind).requires_grad_()
        own_weight = weight.detach().to(device).requires_grad_()
        terms = chunked_cross_entropy(
            own_x, own_weight, targets.to(device), z_loss=1e-3, softcap=15.0
        )
        (terms["loss"] + terms["penalty"]).backward()
        assert own_x.grad is not None
        assert own_weight.grad is not None
        found = [terms["loss"].detach(), own_x.grad, own_weight.grad]
        results.append([value.float().cpu() for value in found])
    exact = dtype == torch.float32
    for found, expected in zip(results[1], results[0], strict=True):
        error = (found - expected).norm() / expected.norm()
        assert error < (1e-4 if exact else 0.02)


def test_muon_on_a_gpu_is_torchs(gpu: torch.device) -> None:
    """Matrices orthogonalised together; to rounding in bf16, for products have another order."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(32, 32), (64, 32), (32, 64), (64, 32), (32, 32)]
    ours = [nn.Parameter(torch.randn(each, generator=generator).to(gpu)) for each in shapes]
    theirs = copy.deepcopy(ours)
    optimizers = [
        kind(each, lr=0.02) for kind, each in ((BatchedMuon, ours), (torch.optim.Muon, theirs))
    ]
    for _ in range(3):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator).to(gpu)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)
