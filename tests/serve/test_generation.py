"""An answer ends before a stop string, and no piece ever shows a part of one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm.config.model import ModelConfig
from llm.config.sampling import SamplingConfig
from llm.inference.engine import Engine
from llm.model.transformer import LanguageModel, initialise
from llm.serve.generation import Generation, stop_position, undecided
from llm.tokenizer.load import Tokenizer

LETTERS = st.text("ab", max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(LETTERS, LETTERS, STOPS)
def test_what_is_decided_holds_whatever_comes_after(text: str, more: str, stops: list[str]) -> None:
    end = stop_position(text, stops)
    if end is not None:
        assert stop_position(text + more, stops) == end or min(map(len, stops)) < max(
            map(len, stops)
        )
        return
    safe = len(text) - undecided(text, stops)
    later = stop_position(text + more, stops)
    assert later is None or later >= safe


@pytest.fixture(scope="module")
def engine(tiny: ModelConfig, tokenizer: Tokenizer) -> Engine:
    model = LanguageModel(tiny, tokenizer.vocab_size)
    initialise(model, 1)
    for parameter in model.parameters():
        parameter.data *= 3
    return Engine(model, tokenizer, torch.device("cpu"))


def generation(engine: Engine, max_new_tokens: int, stops: list[str]) -> Generation:
    prompt = engine.tokenizer.render_prompt([{"role": "user", "content": "Path?"}])
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=max_new_tokens)
    return Generation(engine, prompt, sampling, 0, stops)


def test_the_pieces_are_the_engine_s_answer(engine: Engine) -> None:
    made = generation(engine, 20, [])
    pieces = list(made.pieces())
    (answer,) = engine.answer([[{"role": "user", "content": "Path?"}]], made.sampling, 0)
    assert "".join(pieces) == answer
    assert len(pieces) > 3
    assert made.tokens <= 20
    assert made.finish_reason == ("length" if made.tokens == 20 else "stop")


def test_an_answer_ends_before_the_first_stop_string(engine: Engine) -> None:
    whole = "".join(generation(engine, 20, []).pieces())
    stop = whole[5:8]
    made = generation(engine, 20, ["never said", stop])
    assert "".join(made.pieces()) == whole[: whole.index(stop)]
    assert made.finish_reason == "stop"
    assert made.tokens < 20
