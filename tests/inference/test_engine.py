import pytest
import torch

from llm.config.sampling import SamplingConfig
from llm.errors import DataError
from llm.inference.engine import Engine
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from tests.shapes import shape

PROMPTS = [[0, 10, 20], [0, 7], [0, *range(30, 60)], [0, 99, 98, 97, 96]]


def sampling(**changes) -> SamplingConfig:
    values = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_new_tokens": 24}
    return SamplingConfig(**(values | changes))


@pytest.fixture(scope="module", params=["transformer", "lstm"])
def engine(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> Engine:
    model = LanguageModel(shape(kind=request.param), tokenizer.vocab_size)
    initialise(model, 1)
    for parameter in model.parameters():  # larger weights, so that the choices differ
        parameter.data *= 3
    return Engine(model, tokenizer, torch.device("cpu"))


def greedy_without_cache(engine: Engine, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n):
        token = int(engine.model(torch.tensor([ids]))[0, -1].argmax())
        if token in engine.tokenizer.stop_ids:
            break
        ids.append(token)
    return ids[len(prompt) :]


def test_cached_generation_equals_uncached(engine: Engine) -> None:
    out = engine.generate(PROMPTS, sampling(temperature=0.0), 0, engine.tokenizer.stop_ids)
    assert out == [greedy_without_cache(engine, prompt, 24) for prompt in PROMPTS]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batched_answers_equal_single_ones(engine: Engine, temperature: float) -> None:
    config = sampling(temperature=temperature, top_k=20, top_p=0.9)
    stop_ids = engine.tokenizer.stop_ids
    together = engine.generate(PROMPTS, config, 5, stop_ids, batch_size=4)
    assert together == engine.generate(PROMPTS, config, 5, stop_ids, batch_size=1)
    assert together == engine.generate(PROMPTS, config, 5, stop_ids, batch_size=3)


def test_the_seed_decides_the_sample(engine: Engine) -> None:
    first, again, other = (engine.generate(PROMPTS, sampling(), seed, ()) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_generation_ends_before_a_stop_id(engine: Engine) -> None:
    [free] = engine.generate([PROMPTS[0]], sampling(temperature=0.0), 0, ())
    [stopped] = engine.generate([PROMPTS[0]], sampling(temperature=0.0), 0, (free[5],))
    assert stopped == free[: free.index(free[5])]


def test_a_stream_is_the_same_text_in_whole_characters(engine: Engine) -> None:
    pieces = list(engine.stream(PROMPTS[0], sampling(), 3))
    [ids] = engine.generate([PROMPTS[0]], sampling(), 3, engine.tokenizer.stop_ids)
    assert "".join(pieces) == engine.tokenizer.decode(ids)
    assert len(pieces) > 2


def test_a_long_prompt_keeps_its_end(engine: Engine) -> None:
    long = [0, *[50] * 100, *range(10, 50)]
    config = sampling(temperature=0.0)
    assert engine.generate([long], config, 0, ()) == engine.generate([long[-40:]], config, 0, ())


def test_batched_scores_equal_single_ones_and_the_models_logits(engine: Engine) -> None:
    batched = engine.score(PROMPTS, batch_size=4)
    for prompt, (logps, greedy) in zip(PROMPTS, batched, strict=True):
        [(alone, _)] = engine.score([prompt])
        torch.testing.assert_close(logps, alone, atol=1e-5, rtol=1e-5)
        logits = engine.model(torch.tensor([prompt]))[0, :-1]
        expected = logits.log_softmax(-1)[torch.arange(len(prompt) - 1), prompt[1:]]
        torch.testing.assert_close(logps, expected, atol=1e-5, rtol=1e-5)
        assert greedy.tolist() == (logits.argmax(-1) == torch.tensor(prompt[1:])).tolist()


def test_what_cannot_be_generated_or_scored_is_refused(engine: Engine) -> None:
    with pytest.raises(DataError, match="no room for a prompt"):
        engine.generate(PROMPTS, sampling(max_new_tokens=64), 0, ())
    with pytest.raises(DataError, match="at least one token"):
        engine.generate([[]], sampling(), 0, ())
    with pytest.raises(DataError, match="longer than block_size=64"):
        engine.score([[1] * 66])
