"""Stage instructions: the test is about objects that training never saw."""

import json
from pathlib import Path

import pytest

from llm.config.align import InstructionsConfig
from llm.config.corpus import DecontaminateConfig
from llm.config.paths import Paths
from llm.corpus.contamination import write_sets
from llm.corpus.documents import read_shard
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
DECONTAMINATE = DecontaminateConfig(
    heldout_frac=0.3, ngram_words=13, max_ngram_documents=2, evaluation_sets=[], drop=True
)


@pytest.fixture
def corpus(paths: Paths) -> Paths:
    put(paths.stage("decontaminate") / "kept", [function_row(n) for n in range(60)])
    put(paths.stage("decontaminate") / "heldout", [function_row(n) for n in range(60, 80)])
    write_sets(paths.stage("decontaminate"), {"riddles": [("riddles:0", prose(99))]})
    return paths


def test_kinds_are_balanced_and_test_objects_unseen(corpus: Paths):
    metrics = assert_same_outs(
        "instructions", corpus, run, instructions=CONFIG, decontaminate=DECONTAMINATE
    )
    assert metrics == {
        "train": dict.fromkeys(sorted(CONFIG.kinds), 30),
        "test": dict.fromkeys(sorted(CONFIG.kinds), 5),
        "extra": {"read": 0, "contaminated": 0, "dropped": 0},
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
    run(context("instructions", corpus), instructions=CONFIG, decontaminate=DECONTAMINATE)
    out = corpus.stage("instructions")
    train, test = (read_conversations(out / f"{name}.jsonl") for name in ("train", "test"))
    assert len(test) == 4
    assert not {c.prompt[0]["content"] for c in train} & {c.prompt[0]["content"] for c in test}


def test_extra_conversations_join_the_training(corpus: Paths, tmp_path: Path):
    path = tmp_path / "more.jsonl"
    path.write_text(json.dumps({"instruction": "Say hi.", "input": "", "output": "Hi."}))
    config = CONFIG.model_copy(update={"extra": [str(path)]})
    metrics = run(context("instructions", corpus), instructions=config, decontaminate=DECONTAMINATE)
    assert metrics["train"]["chat"] == 1
    assert "chat" not in metrics["test"]


def test_extra_conversations_that_hold_an_evaluations_text_are_dropped_or_listed(
    corpus: Paths, tmp_path: Path
):
    """An item's, or a held-out document's; what three rows share is boilerplate."""
    heldout = prose(61)  # in function_row's text
    texts = [prose(1), f"So: {prose(99)}", heldout, *(f"{prose(62)} {n}" for n in range(3))]
    path = tmp_path / "more.jsonl"
    rows = [{"instruction": f"What {n}?", "output": text} for n, text in enumerate(texts)]
    path.write_text("\n".join(map(json.dumps, rows)))
    config = CONFIG.model_copy(update={"extra": [str(path)]})
    flag = DECONTAMINATE.model_copy(update={"drop": False})
    for rule, dropped in ((DECONTAMINATE, 2), (flag, 0)):
        metrics = run(context("instructions", corpus), instructions=config, decontaminate=rule)
        assert metrics["extra"] == {"read": 6, "contaminated": 2, "dropped": dropped}
        assert metrics["train"]["chat"] == 6 - dropped
        table = read_shard(corpus.stage("instructions") / "contamination.parquet").to_pylist()
        assert [(row["document_id"], row["set"]) for row in table] == [
            (f"{path}:2", "riddles"),
            (f"{path}:3", "heldout"),
        ]


def test_a_bad_extra_row_or_a_corpus_without_objects_is_one_error(corpus: Paths, tmp_path: Path):
    path = tmp_path / "more.jsonl"
    path.write_text("{}")
    config = CONFIG.model_copy(update={"extra": [str(path)]})
    with pytest.raises(DataError, match=r"more\.jsonl:1: a row needs"):
        run(context("instructions", corpus), instructions=config, decontaminate=DECONTAMINATE)
    put(corpus.stage("decontaminate") / "heldout", [text_row("a.txt", prose(1))])
    with pytest.raises(DataError, match="and 0 for the test"):
        run(context("instructions", corpus), instructions=CONFIG, decontaminate=DECONTAMINATE)
    assert not corpus.stage("instructions").exists()
