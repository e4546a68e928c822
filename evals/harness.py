"""Tasks and models as lm-evaluation-harness sees them: items, requests, and a score with its items."""

import logging
from pathlib import Path
from typing import Any

from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from evals.adapter import EngineLM
from evals.scores import Score, mean_score
from llm.config.evaluation import BenchmarkConfig
from llm.errors import ConfigError, EvaluationError
from llm.inference.engine import Engine
from llm.process import Context

TASKS = Path(__file__).parent / "tasks"
SCORE_NAMES = {"bits_per_byte": "bpb"}  # lm-eval's metric -> ours, where they differ
LN2 = 0.6931471805599453

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about its own defaults


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
    return {
        "version": task.VERSION,
        "metric": SCORE_NAMES.get(metric, metric),
        **mean_score(rows),
    } | {"samples": rows}


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


def _is_question(task: ConfigurableTask) -> bool:
    """Whether the model is to answer, rather than to read a document."""
    return task.OUTPUT_TYPE == "generate_until"
