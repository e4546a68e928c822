"""Generation and scores on a GPU are those on a CPU, with a cache and without, in batches and one by one."""

from pathlib import Path

import pytest
import torch

from llm.inference.engine import Engine
from llm.model.folder import save_model
from llm.tokenizer.load import Tokenizer
from tests.inference.test_combinations import GREEDY, PROMPTS, build
from tests.shapes import GPT2, LSTM

pytestmark = pytest.mark.gpu

PARTS = {
    "Llama's": {},
    "GPT-2's": GPT2,
    "window": {"attention": "sliding_window", "window": 5},
    "strided": {"attention": "strided", "window": 4},
    "soft caps": {"attention_softcap": 5.0, "logit_softcap": 15.0},
    "LSTM": LSTM,
}


@pytest.mark.parametrize("name", PARTS)
def test_cached_generation_is_the_likeliest_without_a_cache_on_a_cpu(
    gpu: torch.device, tokenizer: Tokenizer, name: str
) -> None:
    engine = Engine(build(PARTS[name], tokenizer.vocab_size), tokenizer, gpu)
    exact = build(PARTS[name], tokenizer.vocab_size).eval()
    together = engine.generate(PROMPTS, GREEDY, 0, ())
    for prompt, found in zip(PROMPTS, together, strict=True):
        logits = exact(torch.tensor([[*prompt, *found]]))[0]
        for place, token in enumerate(found, start=len(prompt) - 1):
            best = logits[place].max()  # a near tie may fall either way
            torch.testing.assert_close(logits[place, token], best, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("name", PARTS)
def test_samples_follow_the_seed_and_scores_are_those_of_a_cpu(
    gpu: torch.device, tokenizer: Tokenizer, name: str
) -> None:
    model = build(PARTS[name], tokenizer.vocab_size)
    on_cpu = Engine(build(PARTS[name], tokenizer.vocab_size), tokenizer, torch.device("cpu"))
    engine = Engine(model, tokenizer, gpu)
    drawn = GREEDY.model_copy(update={"temperature": 1.0, "top_k": 20, "top_p": 0.9})
    found = engine.generate(PROMPTS, drawn, 5, ())
    assert found == engine.generate(PROMPTS, drawn, 5, ())
    assert found != engine.generate(PROMPTS, drawn, 6, ())
    for (logps, _), (expected, _) in zip(engine.score(PROMPTS), on_cpu.score(PROMPTS), strict=True):
        assert logps.device.type == "cpu"
        torch.testing.assert_close(logps, expected, atol=1e-2, rtol=1e-3)


def test_a_model_folder_answers_on_the_gpu_that_is_there(
    gpu: torch.device, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    model = build({}, tokenizer.vocab_size)
    save_model(tmp_path, model, tokenizer)
    engine = Engine.load(tmp_path, "auto")
    assert engine.device == gpu
    messages = [{"role": "user", "content": "math?"}]
    sampling = GREEDY.model_copy(update={"max_new_tokens": 8})
    [answer] = engine.answer([messages], sampling, 0)
    prompt = tokenizer.render_prompt(messages)
    assert "".join(engine.stream(prompt, sampling, 0)) == answer
