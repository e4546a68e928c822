import pytest
import torch

from llm.errors import ConfigError
from llm.model.transformer import LanguageModel, initialise
from llm.train.precision import computing, prepare
from tests.shapes import GPT2, LSTM, QWEN3, shape

VOCAB = 100


@pytest.mark.parametrize("parts", [{}, GPT2, QWEN3, LSTM])
def test_bf16_computes_what_fp32_does_and_reaches_fp32_weights(parts: dict) -> None:
    model = LanguageModel(shape(**parts), VOCAB)
    initialise(model, 1)
    ids = torch.randint(VOCAB, (3, 40), generator=torch.Generator().manual_seed(1))
    exact = model(ids)
    with computing(model, "bf16"):
        low = model(ids)
        low.float().square().mean().backward()
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), exact, rtol=0.05, atol=0.02)
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
    assert model(ids).dtype == torch.float32  # as before


def test_float8_without_a_hopper_says_what_it_needs() -> None:
    model = LanguageModel(shape(), VOCAB)
    with pytest.raises(ConfigError, match=r"precision=float8 needs .* use precision=bf16"):
        prepare(model, "float8", torch.device("cpu"))


def test_fp16_of_an_lstm_on_a_cpu_is_refused() -> None:
    model = LanguageModel(shape(**LSTM), VOCAB)
    with pytest.raises(ConfigError, match="there is no LSTM of it on a CPU; use bf16 or fp32"):
        prepare(model, "fp16", torch.device("cpu"))
