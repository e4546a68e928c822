"""Stage instructions: the test is about objects that training never saw."""

import json
from pathlib import Path

import pytest

from llm.config.align import InstructionsConfig
from llm.config.paths import Paths
from llm.data.conversations import read_conversations
from llm.errors import DataError
from llm.stages.instructions import run
from tests.stages.corpus_inputs import assert_same_outs, context, function_row, prose, put, text_row

CONFIG = InstructionsConfig(
    kinds=["import", "parameters", "default", "summary"],
    train_per_kind=30,
    test_per_kind=5,
    max_prompt_characters=400,
    extra=[],
    seed=1,
)


@pytest.fixture
def corpus(paths: Paths) -> Paths:
    put(paths.stage("decontaminate") / "kept", [function_row(n) for n in range(60)])
    put(paths.stage("decontaminate") / "heldout", [function_row(n) for n in range(60, 80)])
    return paths


def test_kinds_are_balanced_and_test_objects_unseen(corpus: Paths):
    metrics = assert_same_outs("instructions", corpus, run, instructions=CONFIG)
    assert metrics == {
        "train": dict.fromkeys(sorted(CONFIG.kinds), 30),
        "test": dict.fromkeys(sorted(CONFIG.kinds), 5),
    }
    out = corpus.stage("instructions")
    train, test = (read_conversations(out / f"{name}.jsonl") for name in ("train", "test"))
    assert not {c.source for c in train} & {c.source for c in test}
    prompts = [c.prompt[0]["content"] for c in (*train, *test)]
    assert len(set(prompts)) == len(prompts)
    kinds = [c.kind for c in train[:40]]
    assert len(set(kinds)) == 4  # shuffled


def test_a_prompt_of_the_test_is_not_trained_on(corpus: Paths):
    same = function_row(3)
    put(corpus.stage("decontaminate") / "heldout", [same])
    run(context("instructions", corpus), instructions=CONFIG)
    out = corpus.stage("instructions")
    train, test = (read_conversations(out / f"{name}.jsonl") for name in ("train", "test"))
    assert len(test) == 4
    assert not {c.prompt[0]["content"] for c in train} & {c.prompt[0]["content"] for c in test}


def test_extra_conversations_join_the_training(corpus: Paths, tmp_path: Path):
    path = tmp_path / "more.jsonl"
    path.write_text(json.dumps({"instruction": "Say hi.", "input": "", "output": "Hi."}))
    config = CONFIG.model_copy(update={"extra": [str(path)]})
    metrics = run(context("instructions", corpus), instructions=config)
    assert metrics["train"]["chat"] == 1
    assert "chat" not in metrics["test"]


def test_a_bad_extra_row_or_a_corpus_without_objects_is_one_error(corpus: Paths, tmp_path: Path):
    path = tmp_path / "more.jsonl"
    path.write_text("{}")
    config = CONFIG.model_copy(update={"extra": [str(path)]})
    with pytest.raises(DataError, match=r"more\.jsonl:1: a row needs"):
        run(context("instructions", corpus), instructions=config)
    put(corpus.stage("decontaminate") / "heldout", [text_row("a.txt", prose(1))])
    with pytest.raises(DataError, match="and 0 for the test"):
        run(context("instructions", corpus), instructions=CONFIG)
    assert not corpus.stage("instructions").exists()
