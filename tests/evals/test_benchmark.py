import json
import math
from pathlib import Path

import pytest
import torch

from evals import benchmark
from evals.benchmark import MODELS, run
from llm.config.evaluation import BenchmarkConfig
from llm.config.paths import Paths
from llm.errors import ConfigError, EvaluationError
from llm.files import fingerprint
from llm.inference.engine import Engine
from llm.process import Context
from tests.evals.conftest import write_contamination

CONFIG = BenchmarkConfig(
    tasks=["docs_summary_choice", "docs_name_choice", "docs_import", "docs_parameters", "docs_bpb"],
    limit=8,
    batch_size=8,
    max_new_tokens=12,
    device="cpu",
    seed=1,
)


def context(paths: Paths, work: str = "work") -> Context:
    return Context("benchmark", paths, paths.stage("x").parent / work)


def test_scores_follow_from_the_samples_and_come_out_the_same_twice(world: Paths) -> None:
    metrics = run(context(world), benchmark=CONFIG)
    before = fingerprint(world.stage("benchmark"))
    assert run(context(world), benchmark=CONFIG) == metrics
    assert fingerprint(world.stage("benchmark")) == before
    assert set(metrics) == set(MODELS)
    for model in MODELS:
        tasks = json.loads((world.stage("benchmark") / f"{model}.json").read_text())["tasks"]
        assert set(tasks) == set(CONFIG.tasks)
        for name, task in tasks.items():
            assert metrics[model][name][task["metric"]] == task["score"]
            assert task["n"] == len(task["samples"]) == CONFIG.limit
            assert task["version"] == 1
            if task["metric"] == "bpb":
                bits = sum(row["bits"] for row in task["samples"])
                score = bits / sum(row["bytes"] for row in task["samples"])
            else:
                score = sum(row["correct"] for row in task["samples"]) / task["n"]
                for row in task["samples"]:
                    if task["metric"] != "exact_match":
                        assert row["correct"] == (row["answer"] == row["reference"])
            assert task["score"] == pytest.approx(score, abs=1e-5)


def test_bits_per_byte_is_the_engines_own_log_probability(world: Paths) -> None:
    some = CONFIG.model_copy(update={"tasks": ["docs_bpb"], "limit": 3})
    run(context(world), benchmark=some)
    engine = Engine.load(world.model("sft"), device="cpu")
    scored = json.loads((world.stage("benchmark") / "sft.json").read_text())["tasks"]["docs_bpb"]
    texts = {row["id"]: row["text"] for row in _documents(world)}
    for row in scored["samples"]:
        ids = [engine.tokenizer.bos_id, *engine.tokenizer.encode(texts[row["id"]])]
        if len(ids) > engine.block_size:
            continue
        ((logps, _),) = engine.score([ids])
        assert row["bits"] == pytest.approx(-float(logps.sum()) / math.log(2), abs=0.01)
        assert row["bytes"] == len(texts[row["id"]].encode())


def test_a_model_that_knows_the_answers_gets_full_marks(
    world: Paths, models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's one output is replaced, so that only the path from answer to score is tested."""
    known = {
        row["messages"][0]["content"]: row["messages"][1]["content"]
        for row in map(json.loads, _lines(world))
    }

    def generate(self: Engine, prompts, *args, **kwargs) -> list[list[int]]:
        texts = [self.tokenizer.decode(ids).strip() for ids in prompts]
        return [self.tokenizer.encode(known[text] + "\nand more") for text in texts]

    monkeypatch.setattr(Engine, "generate", generate)
    some = CONFIG.model_copy(update={"tasks": ["docs_import", "docs_parameters"]})
    metrics = run(context(world), benchmark=some)
    assert all(metrics[model]["exact_match"] == 1.0 for model in MODELS)
    assert metrics["dpo"]["over_base"] == {"exact_match": 0.0, "stderr": 0.0}


def test_an_unknown_task_is_named_with_those_that_exist(world: Paths) -> None:
    config = CONFIG.model_copy(update={"tasks": ["docs_imports"]})
    with pytest.raises(ConfigError, match=r"'docs_imports' is neither in .*docs_import,"):
        run(context(world), benchmark=config)


def test_a_task_without_items_is_refused_before_any_model_is_loaded(world: Paths) -> None:
    config = CONFIG.model_copy(update={"tasks": ["docs_default"]})
    with pytest.raises(EvaluationError, match="docs_default has no items"):
        run(context(world), benchmark=config)


def test_the_gain_over_base_is_paired() -> None:
    def scores(correct: list[int]) -> dict:
        rows = [{"correct": bool(value)} for value in correct]
        mean = sum(correct) / len(correct)
        task = {"metric": "exact_match", "score": mean, "stderr": 0.1, "n": 4, "samples": rows}
        task["clean"] = {"n": 0}
        return {"docs_import": task}

    metrics = benchmark.metrics({"base": scores([0, 0, 0, 1]), "sft": scores([1, 1, 0, 1])})
    assert metrics["sft"]["exact_match"] == 0.75
    assert metrics["sft"]["over_base"]["exact_match"] == 0.5
    assert metrics["sft"]["over_base"]["stderr"] == pytest.approx(
        torch.tensor([1.0, 1.0, 0.0, 0.0]).std().item() / 2, abs=1e-6
    )


def test_the_clean_subset_is_what_shares_nothing_with_training_text(world: Paths) -> None:
    """A hit counts when its document was trained on, and was not dropped for it."""
    everything = CONFIG.model_copy(update={"limit": 32})
    drawn = [row["id"] for row in _documents(world)]
    write_contamination(world, [("trained", drawn[3]), ("trained", drawn[9]), ("gone", drawn[5])])
    metrics = run(context(world), benchmark=everything)
    for model in MODELS:
        tasks = json.loads((world.stage("benchmark") / f"{model}.json").read_text())["tasks"]
        for name, task in tasks.items():
            dirty = [row for row in task["samples"] if not row["clean"]]
            assert sorted(row["id"][-2:] for row in dirty) == [drawn[3], drawn[9]]
            assert task["clean"]["n"] == metrics[model][name]["clean"]["n"] == 30
            assert metrics[model][name]["clean"][task["metric"]] == task["clean"]["score"]
            if task["metric"] != "bpb":
                right = sum(row["correct"] for row in task["samples"] if row["clean"])
                assert task["clean"]["score"] == pytest.approx(right / 30, abs=1e-6)


def test_tasks_over_items_of_ones_own_are_scored_and_are_clean_if_they_were_looked_for(
    world: Paths, riddles: Path
) -> None:
    write_contamination(world, [("trained", "riddles:1"), ("gone", "riddles:2")])
    config = CONFIG.model_copy(update={"tasks": ["riddles", "answers"], "limit": 7})
    metrics = run(context(world), benchmark=config)
    assert set(metrics["sft"]["riddles"]) == {"acc_norm", "stderr", "n", "clean"}
    tasks = json.loads((world.stage("benchmark") / "sft.json").read_text())["tasks"]
    for name, task in tasks.items():
        assert [row["id"] for row in task["samples"]] == [f"{name}:{n}" for n in range(7)]
        for n, row in enumerate(task["samples"]):
            assert row["prompt"] == f"Riddle: {n}? Answer:"
            assert row["reference"] == ["a", "bee"][n % 2]
            assert row["correct"] == (row["answer"] == row["reference"])
    clean = [row["id"] for row in tasks["riddles"]["samples"] if row["clean"]]
    assert clean == ["riddles:0", "riddles:2", "riddles:3", "riddles:4", "riddles:5"]
    assert not any(row["clean"] for row in tasks["answers"]["samples"])


def test_a_task_of_no_clean_item_has_no_clean_score() -> None:
    row = {"id": "a", "document": "elsewhere", "correct": True}
    task = {"metric": "acc", "score": 1.0, "stderr": 0.0, "n": 1, "samples": [row]}
    (scored,) = benchmark.with_clean({"t": task}, frozenset()).values()
    assert scored["clean"] == {"n": 0}
    assert benchmark.metrics({"base": {"t": scored}})["base"]["t"]["clean"] == {"n": 0}


def _documents(world: Paths) -> list[dict[str, str]]:
    import pyarrow.parquet as pq

    return pq.read_table(world.stage("decontaminate") / "heldout").to_pylist()


def _lines(world: Paths) -> list[str]:
    return (world.stage("instructions") / "test.jsonl").read_text().splitlines()
