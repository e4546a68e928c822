from functools import partial

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from llm.model.transformer import LanguageModel
from llm.train.compile import compile_whole, compiles
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
