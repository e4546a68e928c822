"""Stage tokenizer: learnt from the sample, measured on what is held out."""

import pytest

from llm.config.paths import Paths
from llm.config.tokenizer import TokenizerConfig
from llm.stages.tokenizer import run
from llm.tokenizer.load import Tokenizer
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, put, text_row

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


def test_a_sample_of_too_few_pairs_is_told_and_what_follows_has_as_many_ids_as_there_are(
    corpus: Paths, caplog: pytest.LogCaptureFixture
):
    more = CONFIG.model_copy(update={"vocab_size": 131_072})
    found = run(context("tokenizer", corpus), tokenizer=more)["vocab_size"]
    assert 320 < found < 131_072
    assert found == Tokenizer.load(corpus.stage("tokenizer")).vocab_size
    (said,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert said.startswith("tokenizer.vocab_size=131072 is more than the sample holds")
    assert f"has {found} ids" in said


def test_the_measures_are_those_of_the_held_out_text(corpus: Paths):
    german = {"source": "web", "language": "de", "text": "Größe und Länge: 漢字"}
    rows = [function_row(n) for n in range(100, 110)]
    put(corpus.stage("decontaminate") / "heldout", [*rows, text_row("a", "") | german])
    metrics = run(context("tokenizer", corpus), tokenizer=CONFIG)
    tokenizer = Tokenizer.load(corpus.stage("tokenizer"))

    def by_hand(texts: list[str]) -> dict[str, float]:
        tokens = sum(len(tokenizer.encode(text)) for text in texts)
        size = sum(len(text.encode()) for text in texts)
        words = sum(len(text.split()) for text in texts)
        measures = {"bytes_per_token": size / tokens, "fertility": tokens / words}
        return {"bytes": size} | {key: round(value, 4) for key, value in measures.items()}

    docs, web = by_hand([row["text"] for row in rows]), by_hand([german["text"]])
    assert metrics["by_source"] == {"docs": docs, "web": web}
    assert metrics["by_language"] == {"de": web, "en": docs}
    whole = by_hand([*(row["text"] for row in rows), german["text"]])
    assert {key: metrics[key] for key in whole} == whole


def test_a_smaller_sample_is_an_even_share(corpus: Paths):
    everything = run(context("tokenizer", corpus), tokenizer=CONFIG)["sample_bytes"]
    half = CONFIG.model_copy(update={"sample_bytes": everything // 2})
    metrics = run(context("tokenizer", corpus), tokenizer=half)
    assert metrics["sample_bytes"] == pytest.approx(everything / 2, rel=0.4)
