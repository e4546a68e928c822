"""Tasks and models as lm-evaluation-harness sees them: items, requests, and a score with its items."""

from typing import Any

from lm_eval import evaluator
from lm_eval.api.task import ConfigurableTask

from evals.adapter import EngineLM
from evals.catalogue import find_tasks, item_id, metric_of
from evals.scores import Score, mean_score
from evals.task_files import made_of_heldout
from llm.config.evaluation import BenchmarkConfig
from llm.inference.engine import Engine
from llm.process import Context

SCORE_NAMES = {"bits_per_byte": "bpb"}  # lm-eval's metric -> ours, where they differ
LN2 = 0.6931471805599453


def load_tasks(ctx: Context, config: BenchmarkConfig) -> dict[str, ConfigurableTask]:
    """The configured tasks with their items; errors as `find_tasks` has them."""
    values = {
        "heldout": str(ctx.paths.stage("decontaminate") / "heldout"),
        "conversations": str(ctx.paths.stage("instructions") / "test.jsonl"),
        "limit": config.limit,
        "seed": config.seed,
    }
    tasks = find_tasks(config.tasks, values)
    for task in tasks.values():
        task.set_fewshot_seed(config.seed)
    return tasks


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
            limit=config.limit,
            bootstrap_iters=0,
            apply_chat_template=asked,
            fewshot_as_multiturn=True,
        )
        assert results is not None, "lm-eval returns nothing only on ranks above 0"
        samples |= results["samples"]  # pyright: ignore
    return {name: _score(name, task, samples[name]) for name, task in tasks.items()}


def _score(name: str, task: ConfigurableTask, samples: list[dict[str, Any]]) -> Score:
    """A task's score, its standard error and its items, from lm-eval's samples."""
    samples = sorted(samples, key=lambda sample: sample["doc_id"])
    samples = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    metric = metric_of(task)
    ours = name in made_of_heldout()
    rows = []
    for sample in samples:
        at = item_id(name, sample["doc_id"])
        id_, document = (sample["doc"][key] if ours else at for key in ("id", "document"))
        rows.append({"id": id_, **_shown(task, metric, sample), "document": document})
    return {
        "version": task.VERSION,
        "metric": SCORE_NAMES.get(metric, metric),
        **mean_score(rows),
    } | {"samples": rows}


def _shown(task: ConfigurableTask, metric: str, sample: dict[str, Any]) -> dict[str, Any]:
    """An item's result: bits and bytes, or what was asked, the reference, the answer, the verdict."""
    if metric == "bits_per_byte":
        logp, n_bytes = sample[metric]
        return {"bits": round(-logp / LN2, 3), "bytes": n_bytes}
    show = _choice if task.OUTPUT_TYPE == "multiple_choice" else _answer
    prompt, reference, answer = show(task, sample)
    correct = bool(sample[metric])
    return {"prompt": prompt, "reference": reference, "answer": answer, "correct": correct}


def _answer(task: ConfigurableTask, sample: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Of a question, or of a text of which only the likelihood counts."""
    item = sample["doc"]
    return task.doc_to_text(item), task.doc_to_target(item), sample["filtered_resps"][0]


def _choice(task: ConfigurableTask, sample: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The option that got the highest score, by the measure that the task is graded with."""
    item = sample["doc"]
    choices = task.doc_to_choice(item)
    logps = [logp for logp, _ in sample["filtered_resps"]]
    if "acc_norm" in sample["metrics"]:
        logps = [logp / len(choice) for logp, choice in zip(logps, choices, strict=True)]
    text, gold = task.doc_to_text(item), task.doc_to_target(item)
    if task.multiple_input:  # the options are what is read before the target
        text, gold = gold, text
    reference = choices[gold] if isinstance(gold, int) else str(gold)
    return str(text).strip(), reference.strip(), choices[logps.index(max(logps))].strip()


def _is_question(task: ConfigurableTask) -> bool:
    """Whether the model is to answer, rather than to read a document."""
    return task.OUTPUT_TYPE == "generate_until"
