from pathlib import Path

import pytest
import torch

from llm.errors import ConfigError
from llm.model.transformer import LanguageModel, initialise
from llm.train.masters import MasterWeights
from llm.train.precision import computing, prepare
from tests.shapes import GPT2, LSTM, QWEN3, shape
from tests.train.toy import Patterns, config, run

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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("parts", [{}, GPT2 | {"n_kv_head": 2}, QWEN3])
def test_bf16_weights_train_as_bf16_does_to_the_bit(
    tmp_path: Path, parts: dict, optimizer: str
) -> None:
    batches, optim = Patterns(5, 2, 4), {"optimizer": optimizer}
    trained = {
        precision: run(
            tmp_path / precision,
            batches,
            config(precision=precision, grad_norm_interval=2, optim=optim),
            **parts,
        )
        for precision in ("bf16", "bf16_weights")
    }
    (model, outcome), (other, its_outcome) = trained.values()
    assert outcome.history == its_outcome.history
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_bf16_weights_resume_to_the_bit_and_keep_their_best(tmp_path: Path) -> None:
    """The checkpoint has the masters: their copies in bf16 follow from them."""
    batches = Patterns(9, 1, 4)
    best = {"steps": 2, "keep_best": 1, "result": "best"}
    settings = config(precision="bf16_weights", checkpoint=best, eval_interval=3)

    def end(step: int, metrics: object) -> None:
        if step == 5:
            raise InterruptedError

    model, outcome = run(tmp_path / "whole", batches, settings)
    with pytest.raises(InterruptedError):
        run(tmp_path / "split", batches, settings, end)
    resumed, its_outcome = run(tmp_path / "split", batches, settings)
    assert its_outcome.history == outcome.history
    torch.testing.assert_close(resumed.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert {value.dtype for value in resumed.state_dict().values()} == {torch.float32}


def test_only_blocks_are_in_bf16_and_one_process_adds_their_gradients_in_fp32() -> None:
    model = LanguageModel(shape(), VOCAB)
    initialise(model, 1)
    masters = MasterWeights(model, in_bf16=True)
    dtypes = {name: value.dtype for name, value in model.named_parameters()}
    assert dtypes["backbone.embed.weight"] == torch.float32
    assert {v for k, v in dtypes.items() if ".blocks." in k} == {torch.bfloat16}
    name, weight = "backbone.blocks.0.mlp.up.weight", model.backbone.blocks[0].mlp.up.weight
    for _ in range(300):  # of which bf16 would lose most
        weight.grad = torch.full_like(weight, 1.0)
        masters.collect()
    assert torch.all(masters.parameters[name].grad == 300)
    masters.hand_out()
    assert torch.all(weight.grad == 300)
    assert masters.parameters[name].grad is None
    masters.dissolve()
    assert {id(p) for p in model.parameters()} == {id(p) for p in masters.parameters.values()}
