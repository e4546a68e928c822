"""Stage tokenizer: learnt from the sample, measured on what is held out."""

import pytest

from llm.config.paths import Paths
from llm.config.tokenizer import TokenizerConfig
from llm.stages.tokenizer import run
from llm.tokenizer.load import Tokenizer
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, put

CONFIG = TokenizerConfig(
    init_from="",
    vocab_size=320,
    sample_bytes=10**9,
    min_frequency=2,
    max_digits=1,
    white_space="runs",
)


@pytest.fixture
def corpus(paths: Paths) -> Paths:
    put(paths.stage("decontaminate") / "kept", [function_row(n) for n in range(100)])
    put(paths.stage("decontaminate") / "heldout", [function_row(n) for n in range(100, 110)])
    return paths


def test_a_large_enough_sample_is_the_whole_corpus(corpus: Paths):
    metrics = assert_same_outs("tokenizer", corpus, run, tokenizer=CONFIG)
    rows = [function_row(n) for n in range(100)]
    assert metrics["sample_documents"] == 100
    assert metrics["sample_bytes"] == sum(len(row["text"].encode()) for row in rows)
    assert metrics["vocab_size"] == 320 == Tokenizer.load(corpus.stage("tokenizer")).vocab_size


def test_the_measures_are_those_of_the_held_out_text(corpus: Paths):
    metrics = run(context("tokenizer", corpus), tokenizer=CONFIG)
    texts = [function_row(n)["text"] for n in range(100, 110)]
    tokenizer = Tokenizer.load(corpus.stage("tokenizer"))
    tokens = sum(len(tokenizer.encode(text)) for text in texts)
    size = sum(len(text.encode()) for text in texts)
    assert metrics["bytes_per_token"] == pytest.approx(size / tokens, abs=1e-4)
    words = sum(len(text.split()) for text in texts)
    assert metrics["fertility"] == pytest.approx(tokens / words, abs=1e-4)


def test_a_smaller_sample_is_an_even_share(corpus: Paths):
    everything = run(context("tokenizer", corpus), tokenizer=CONFIG)["sample_bytes"]
    half = CONFIG.model_copy(update={"sample_bytes": everything // 2})
    metrics = run(context("tokenizer", corpus), tokenizer=half)
    assert metrics["sample_bytes"] == pytest.approx(everything / 2, rel=0.4)
