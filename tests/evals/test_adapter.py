import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance

from evals.adapter import EngineLM
from llm.config.sampling import SamplingConfig
from llm.inference.engine import Engine

PAIRS = [
    ("pkg.file.read_file", "(file, limit=0)"),
    ("Read the", " file and return its size"),
    ("", "Sort the table"),
    ("pkg.tree.sort_tree(tree)\n\n", "Sort the tree and return its size in bytes."),
    ("A ", "trailing space"),
]
USER = [{"role": "user", "content": "import of pkg.file.read_file?"}]


def adapter(engine: Engine, batch_size: int = 8, chat: bool = True) -> EngineLM:
    return EngineLM(engine, chat=chat, batch_size=batch_size, max_new_tokens=12, seed=1)


def requests(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [
        Instance(request_type=kind, doc={}, arguments=args, idx=i)  # pyright: ignore
        for i, args in enumerate(arguments)
    ]


def test_batched_scores_are_those_of_one_by_one(engine: Engine) -> None:
    asked = requests("loglikelihood", PAIRS)
    together = adapter(engine).loglikelihood(asked)
    alone = [adapter(engine, 1).loglikelihood([request])[0] for request in asked]
    assert [score for score, _ in together] == pytest.approx([s for s, _ in alone], abs=1e-4)
    assert [greedy for _, greedy in together] == [greedy for _, greedy in alone]


def test_the_parts_of_a_text_score_as_much_as_the_whole(engine: Engine) -> None:
    text = "Read the file and return its size"
    whole = adapter(engine).loglikelihood(requests("loglikelihood", [("", text)]))[0][0]
    head, tail = text[:8], text[8:]
    parts = adapter(engine).loglikelihood(requests("loglikelihood", [("", head), (head, tail)]))
    assert whole == pytest.approx(sum(score for score, _ in parts), abs=1e-4)


def test_the_greedy_continuation_is_recognised(engine: Engine) -> None:
    lm = adapter(engine)
    prompt = lm.tok_encode("pkg.file")
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=5)
    (ids,) = engine.generate([prompt], sampling, seed=1, stop_ids=[])
    other = [*ids[:-1], (ids[-1] + 1) % engine.tokenizer.vocab_size]
    asked = [(("", ""), prompt, ids), (("", ""), prompt, other)]
    assert [greedy for _, greedy in lm._loglikelihood_tokens(asked)] == [True, False]


def test_a_short_text_rolls_in_one_window_after_the_separator(engine: Engine) -> None:
    text = "Count the tree and return its size in bytes."
    (rolled,) = adapter(engine).loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]))
    (plain,) = adapter(engine).loglikelihood(requests("loglikelihood", [("", text)]))
    assert rolled == pytest.approx(plain[0], abs=1e-4)


@settings(max_examples=40)
@given(length=st.integers(1, 400))
def test_rolling_windows_score_every_token_once_and_fit_the_context(
    engine: Engine, length: int
) -> None:
    ids = list(range(10, 10 + length))  # all different, so that a repeat would show
    windows = adapter(engine)._windows(ids)
    assert [id_ for _, scored in windows for id_ in scored] == ids
    assert all(len(context) + len(scored) <= engine.block_size + 1 for context, scored in windows)
    assert all(context for context, _ in windows)


def test_a_long_text_is_not_cut_when_it_rolls(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    text = "Read the file and return its size in bytes. " * 20
    assert len(engine.tokenizer.encode(text)) > 2 * engine.block_size
    adapter(engine).loglikelihood_rolling(requests("loglikelihood_rolling", [(text,)]))
    assert not caplog.records


def test_an_overlong_prompt_is_cut_and_said_so(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests("generate_until", [("word " * 200, {"until": ["\n"]})])
    with caplog.at_level(logging.WARNING):
        adapter(engine).generate_until(asked)
    assert "from the left" in caplog.text


def test_answers_end_before_the_stop_string_and_match_one_by_one(engine: Engine) -> None:
    lm = adapter(engine)
    prompts = [context for context, _ in PAIRS if context]
    free = lm.generate_until(
        requests("generate_until", [(prompt, {"until": ["\0"]}) for prompt in prompts])
    )
    stop = next(text[3:5] for text in free if len(text) > 5)
    asked = requests("generate_until", [(prompt, {"until": [stop]}) for prompt in prompts])
    answers = lm.generate_until(asked)
    assert answers == [text.partition(stop)[0] for text in free]
    assert answers == [adapter(engine, 1).generate_until([request])[0] for request in asked]


def test_a_chat_prompt_is_the_ids_that_the_engine_answers(engine: Engine) -> None:
    lm = adapter(engine)
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=12)
    text = lm.apply_chat_template(USER)
    assert lm.tok_encode(text) == engine.tokenizer.render_prompt(USER)
    (answer,) = lm.generate_until(requests("generate_until", [(text, {"until": ["\0"]})]))
    assert [answer] == engine.answer([USER], sampling, seed=1)


def test_no_text_can_pose_as_a_special_token(engine: Engine) -> None:
    lm = adapter(engine)
    ids = lm.tok_encode(lm.apply_chat_template([{"role": "user", "content": "<|assistant|>"}]))
    assert ids.count(engine.tokenizer.assistant_id) == 1
    assert engine.tokenizer.assistant_id not in lm.tok_encode("<|assistant|>")


def test_a_model_without_the_chat_format_is_asked_in_plain_text(engine: Engine) -> None:
    lm = adapter(engine, chat=False)
    assert lm.apply_chat_template(USER) == "import of pkg.file.read_file?\n\n"
