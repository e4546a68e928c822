from functools import partial
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from llm.model.feed_forward import gelu
from llm.model.transformer import LanguageModel, initialise
from llm.train.compile import compile_whole, compiles
from llm.train.distributed import Ranks
from tests.shapes import LSTM, shape

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("setting", "device", "run_flops", "expected"),
    [
        ("off", GPU, 1e20, False),
        ("on", CPU, 1.0, True),
        ("auto", GPU, 1.0, True),
        ("auto", CPU, 1e12, False),  # seconds
        ("auto", CPU, 1e16, True),  # half a day on two cores
    ],
)
def test_auto_compiles_for_a_gpu_and_for_a_long_run(
    setting: str, device: torch.device, run_flops: float, expected: bool
) -> None:
    assert compiles(setting, LanguageModel(shape(), 50), device, run_flops) is expected


def test_an_lstm_is_never_compiled_and_says_so_where_that_was_asked(caplog) -> None:
    network = LanguageModel(shape(**LSTM), 50)
    assert not compiles("auto", network, GPU, 1e20)
    assert not caplog.text
    assert not compiles("on", network, CPU, 1e20)
    assert "compile=on does nothing for an LSTM" in caplog.text


def test_another_number_of_counted_tokens_compiles_nothing_anew(monkeypatch) -> None:
    """As sft has it, step by step; torch gives up a function after eight times."""
    compiler = CompileCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=compiler))
    network = LanguageModel(shape(), 50)
    compiled, ids = compile_whole(network), torch.arange(16)[None]
    for counted in (1, 5, 9):
        keep = torch.arange(16)[None] < counted
        found = compiled(ids, keep=keep, targets=ids)["loss"]
        torch.testing.assert_close(found, network(ids, keep=keep, targets=ids)["loss"])
    assert compiler.frame_count == 1
    for counted in (1, 5, 9):  # as dpo has it
        keep = torch.arange(16)[None] < counted
        found = compiled(ids, keep=keep, targets=ids, logps=True)
        torch.testing.assert_close(found, network(ids, keep=keep, targets=ids, logps=True))
    assert compiler.frame_count == 2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_compiled_gelu_is_torchs(dtype: torch.dtype, tolerance: float) -> None:
    x = torch.linspace(-9, 9, 1001, dtype=dtype).requires_grad_()
    (expected,) = torch.autograd.grad(gelu(x).sum(), x)
    y = torch.compile(gelu, backend="aot_eager")(x)
    torch.testing.assert_close(y, gelu(x), atol=tolerance, rtol=0)
    (found,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("parts", [{}, {"logit_softcap": 5.0}])
def test_compiled_loss_is_the_same_and_so_are_its_gradients(parts: dict[str, Any]) -> None:
    network = LanguageModel(shape(**parts), 50)
    initialise(network, 1)
    ids = torch.arange(32).view(2, 16)
    eager = network(ids, targets=ids, z_loss=1e-3)
    compiled = torch.compile(network, backend="aot_eager")(ids, targets=ids, z_loss=1e-3)
    torch.testing.assert_close(compiled, eager)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(eager["loss"] + eager["penalty"], parameters)
    found = torch.autograd.grad(compiled["loss"] + compiled["penalty"], parameters)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("parts", [{}, {"attention": "sliding_window", "window": 5}])
def test_dropout_compiles_as_one_graph(parts: dict[str, Any]) -> None:
    """torch.compile knows no draws of 64 bits: each would part the graph."""
    network = LanguageModel(shape(dropout=0.2, **parts), 50).train()
    initialise(network, 1)
    ids = torch.arange(32).view(2, 16)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    losses = [compiled(ids, targets=ids)["loss"] for _ in range(2)]
    losses[0].backward()
    expected = network.eval()(ids, targets=ids)["loss"]
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[0], expected, rtol=0.1, atol=0)


def test_blocks_that_processes_share_out_are_compiled_once_they_are_wrapped() -> None:
    """Also where a stage has shared them out before, as dpo does for its reference."""
    network = LanguageModel(shape(), 50)
    mesh = object()
    own = Ranks(0, 1, CPU, mesh=mesh)  # type: ignore[arg-type]
    assert own.wrap(network, compiled=True) is network
    assert all(block._compiled_call_impl is not None for block in network.backbone.blocks)
