"""Whatever parts a network is made of: cached generation ≡ uncached, batched ≡ one by one."""

from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm.config.sampling import SamplingConfig
from llm.inference.engine import Engine
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from tests.shapes import shape

PROMPTS = [[0, 10, 20], [0, 7], [0, *range(30, 50)], [0, 99, 98, 97, 96]]
GREEDY = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=16)

SCALINGS = (("none", 1.0), ("linear", 4.0), ("llama3", 4.0))
PATTERNS = (("full", 0), ("sliding_window", 1), ("sliding_window", 5), ("strided", 4))


@st.composite
def combinations(draw) -> dict[str, Any]:
    attention, window = draw(st.sampled_from(PATTERNS))
    kind, factor = draw(st.sampled_from(SCALINGS))
    scaling = {"kind": kind, "factor": factor, "original_block_size": 16}
    return {
        "kind": draw(st.sampled_from(["transformer", "transformer", "lstm"])),
        "norm": draw(st.sampled_from(["layernorm", "rmsnorm"])),
        "positions": draw(st.sampled_from(["learned", "sinusoidal", "rope", "none"])),
        "rope_scaling": scaling | {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "feed_forward": draw(st.sampled_from(["relu", "gelu", "swiglu", "relu2"])),
        "attention": attention,
        "window": window,
        "n_kv_head": draw(st.sampled_from([1, 2, 4])),
        "head_dim": draw(st.sampled_from([0, 6])),
        "qk_norm": draw(st.booleans()),
        "attention_softcap": draw(st.sampled_from([0.0, 5.0])),
        "logit_softcap": draw(st.sampled_from([0.0, 15.0])),
        "bias": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0.0, 0.3])),
        "tie_embeddings": draw(st.booleans()),
    }


def build(changes: dict[str, Any], vocab_size: int) -> LanguageModel:
    model = LanguageModel(shape(**changes), vocab_size)
    initialise(model, 1)
    for name, parameter in model.named_parameters():  # larger weights, so that choices differ
        if parameter.dim() >= 2 and "embed" not in name:
            parameter.data *= 6
    return model


@given(changes=combinations())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cached_generation_equals_uncached(changes: dict[str, Any], tokenizer: Tokenizer) -> None:
    engine = Engine(build(changes, tokenizer.vocab_size), tokenizer, torch.device("cpu"))
    cached = engine.generate(PROMPTS, GREEDY, 0, ())
    for prompt, found in zip(PROMPTS, cached, strict=True):
        ids = torch.tensor([[*prompt, *found]])
        logits = engine.model(ids)[0]  # the whole sequence at once, no cache
        for place, token in enumerate(found, start=len(prompt) - 1):
            best = logits[place].max()  # a tie may fall either way
            torch.testing.assert_close(logits[place, token], best, atol=1e-4, rtol=1e-5)


@given(changes=combinations())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_combination_trains(changes: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Every parameter gets a gradient, and a few steps on one row lower its loss."""
    model = build(changes, tokenizer.vocab_size).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.arange(24)[None]
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-3:]) < losses[0]
