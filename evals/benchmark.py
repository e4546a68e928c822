"""Stage benchmark: base, sft and dpo on the tasks in evals/tasks, by lm-evaluation-harness.

Reads    paths.models/{base,sft,dpo}                   Hugging Face folders
         paths.data/decontaminate/heldout/*.parquet    documents no model was trained on
         paths.data/decontaminate/contamination.parquet, kept   those whose text was trained on
         paths.data/instructions/test.jsonl            questions about them
Writes   paths.data/benchmark/{base,sft,dpo}.json      scores, and every item's prompt, reference,
         answer and verdict
Metrics  benchmark.json   per model and task: the score (named after its metric), its stderr, n,
         and under `clean` the same of the items that share no n-gram with training text;
         per model: exact_match, the mean over the exact-match tasks, and its stderr; for sft and
         dpo: over_base, the paired gain in exact_match over base, and its stderr

Cloze tasks and bits per byte are read as documents by all models, so that they compare.
Questions are put to sft and dpo in the chat format, and to base as plain text followed by
an empty line, the way documents separate a heading from its text: base has never seen a
special token of the chat format, and giving it those would only lower its score.
"""

import logging
from collections.abc import Container
from pathlib import Path
from typing import Any

from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from evals.adapter import EngineLM
from evals.clean import CleanDocuments
from evals.significance import (
    mean_of_means,
    mean_stderr,
    paired_difference,
    ratio_stderr,
)
from llm.config.evaluation import BenchmarkConfig
from llm.errors import ConfigError, EvaluationError
from llm.files import write_dir, write_json
from llm.inference.engine import Engine
from llm.process import Context, main

TASKS = Path(__file__).parent / "tasks"
MODELS = ("base", "sft", "dpo")
CHAT_MODELS = ("sft", "dpo")
SCORE_NAMES = {"bits_per_byte": "bpb"}  # lm-eval's metric -> ours, where they differ
LN2 = 0.6931471805599453

Score = dict[str, Any]  # version, metric, score, stderr, n, clean (score, stderr, n), samples

logger = logging.getLogger(__name__)


def run(ctx: Context, *, benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Score every model on every task; returns the metrics."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about its own defaults
    tasks = load_tasks(ctx, benchmark)
    clean = CleanDocuments(ctx.paths.stage("decontaminate"))
    results: dict[str, dict[str, Score]] = {}
    with write_dir(ctx.out) as out:
        for name in MODELS:
            engine = Engine.load(ctx.paths.model(name), device=benchmark.device)
            chat = name in CHAT_MODELS
            results[name] = with_clean(score_model(engine, tasks, benchmark, chat=chat), clean)
            write_json(out / f"{name}.json", {"model": name, "tasks": results[name]})
            logger.info("%s: %s", name, _summary(results[name]))
    return metrics(results)


def load_tasks(ctx: Context, config: BenchmarkConfig) -> dict[str, ConfigurableTask]:
    """The configured tasks with their items; errors name an unknown task or one without items."""
    values = {
        "heldout": str(ctx.paths.stage("decontaminate") / "heldout"),
        "conversations": str(ctx.paths.stage("instructions") / "test.jsonl"),
        "limit": config.limit,
        "seed": config.seed,
    }
    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata=values)
    for name in config.tasks:
        if name not in manager.all_subtasks:
            known = ", ".join(manager.all_subtasks)
            raise ConfigError(f"benchmark.tasks: {name!r} is not in evals/tasks; known: {known}")
    return {name: _load_task(manager, name) for name in config.tasks}


def score_model(
    engine: Engine,
    tasks: dict[str, ConfigurableTask],
    config: BenchmarkConfig,
    *,
    chat: bool,
) -> dict[str, Score]:
    """The scores and samples of one model, task by task."""
    adapter = EngineLM(
        engine,
        chat=chat,
        batch_size=config.batch_size,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
    )
    samples: dict[str, list[dict[str, Any]]] = {}
    for asked in (False, True):
        some = {name: task for name, task in tasks.items() if _is_question(task) == asked}
        # Not simple_evaluate, which also lists the machine's packages and GPUs in subprocesses.
        # Standard errors are ours: lm-eval has none for bits per byte.
        results = evaluator.evaluate(
            adapter,
            {"tasks": dict(some)},
            bootstrap_iters=0,
            apply_chat_template=asked,
            fewshot_as_multiturn=True,
        )
        assert results is not None, "lm-eval returns nothing only on ranks above 0"
        samples |= results["samples"]  # pyright: ignore
    return {name: _score(task, samples[name]) for name, task in tasks.items()}


def metrics(results: dict[str, dict[str, Score]]) -> dict[str, Any]:
    """What goes into metrics/benchmark.json."""
    summary: dict[str, Any] = {}
    for model, scores in results.items():
        summary[model] = {
            task: {
                score["metric"]: score["score"],
                "stderr": score["stderr"],
                "n": score["n"],
                "clean": _clean_metrics(score),
            }
            for task, score in scores.items()
        }
        exact = _exact(scores)
        if not exact:
            continue
        mean, stderr = mean_of_means([mean_stderr(values) for values in exact])
        summary[model] |= {
            "exact_match": _round(mean),
            "exact_match_stderr": _round(stderr),
        }
        if model != "base":
            pairs = zip(exact, _exact(results["base"]), strict=True)
            gain, error = mean_of_means([paired_difference(ours, base) for ours, base in pairs])
            summary[model]["over_base"] = {
                "exact_match": _round(gain),
                "stderr": _round(error),
            }
    return summary


def _load_task(manager: TaskManager, name: str) -> ConfigurableTask:
    try:
        task = manager.load(name)["tasks"][name]
    except IndexError:  # lm-eval looks at the first item when it makes a task
        raise EvaluationError(
            f"task {name} has no items among the held-out data; take it out of benchmark.tasks, "
            "or gather Python documentation (gather.sources, kind python_docs) and hold out more "
            "of it (decontaminate.heldout_frac)"
        ) from None
    assert isinstance(task, ConfigurableTask)
    return task


def _score(task: ConfigurableTask, samples: list[dict[str, Any]]) -> Score:
    """A task's score, its standard error and its items, from lm-eval's samples."""
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    (metric,) = samples[0]["metrics"]
    if metric == "bits_per_byte":
        rows = [_document_row(sample, sample[metric]) for sample in samples]
    else:
        show = _question_row if _is_question(task) else _choice_row
        rows = [show(task, sample) | {"correct": bool(sample[metric])} for sample in samples]
    documents = [sample["doc"].get("document", "") for sample in samples]
    rows = [row | {"document": name} for row, name in zip(rows, documents, strict=True)]
    return {"version": task.VERSION, "metric": SCORE_NAMES.get(metric, metric), **_mean(rows)} | {
        "samples": rows
    }


def with_clean(scores: dict[str, Score], clean: Container[str]) -> dict[str, Score]:
    """The scores, and those of the items whose document is clean; each item says whether it is."""
    found = {}
    for task, score in scores.items():
        rows = [row | {"clean": row["document"] in clean} for row in score["samples"]]
        found[task] = score | {
            "clean": _mean([row for row in rows if row["clean"]]),
            "samples": rows,
        }
    return found


def _mean(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Score, standard error and number of items; of no item the number alone."""
    if not rows:
        return {"n": 0}
    if "bits" in rows[0]:
        score, stderr = ratio_stderr([row["bits"] for row in rows], [row["bytes"] for row in rows])
    else:
        score, stderr = mean_stderr([float(row["correct"]) for row in rows])
    return {"score": _round(score), "stderr": _round(stderr), "n": len(rows)}


def _clean_metrics(score: Score) -> dict[str, Any]:
    clean = dict(score["clean"])
    return {score["metric"]: clean.pop("score"), **clean} if clean["n"] else clean


def _document_row(sample: dict[str, Any], value: tuple[float, int]) -> dict[str, Any]:
    bits = -value[0] / LN2
    return {"id": sample["doc"]["id"], "bits": round(bits, 3), "bytes": value[1]}


def _question_row(task: ConfigurableTask, sample: dict[str, Any]) -> dict[str, Any]:
    item = sample["doc"]
    return {
        "id": item["id"],
        "prompt": item["question"],
        "reference": item["answer"],
        "answer": sample["filtered_resps"][0],
    }


def _choice_row(task: ConfigurableTask, sample: dict[str, Any]) -> dict[str, Any]:
    """The option that got the highest score, by the measure that the task is graded with."""
    item = sample["doc"]
    logps = [logp for logp, _ in sample["filtered_resps"]]
    if "acc_norm" in sample["metrics"]:
        pairs = zip(logps, item["choices"], strict=True)
        logps = [logp / len(choice) for logp, choice in pairs]
    return {
        "id": item["id"],
        "prompt": item["summary"] if task.multiple_input else item["question"].strip(),
        "reference": item["choices"][item["answer"]].strip(),
        "answer": item["choices"][logps.index(max(logps))].strip(),
    }


def _exact(scores: dict[str, Score]) -> list[list[float]]:
    """Per exact-match task, whether each item was answered right."""
    return [
        [float(row["correct"]) for row in score["samples"]]
        for score in scores.values()
        if score["metric"] == "exact_match"
    ]


def _is_question(task: ConfigurableTask) -> bool:
    """Whether the model is to answer, rather than to read a document."""
    return task.OUTPUT_TYPE == "generate_until"


def _summary(scores: dict[str, Score]) -> str:
    return ", ".join(
        f"{name} {score['score']:.3f} ± {score['stderr']:.3f}" for name, score in scores.items()
    )


def _round(value: float) -> float:
    return round(value, 6)


if __name__ == "__main__":
    main("benchmark", run, benchmark=BenchmarkConfig)
