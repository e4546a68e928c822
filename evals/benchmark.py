"""Stage benchmark: base, sft and dpo on the tasks in evals/tasks or of lm-evaluation-harness, by that.

Reads    paths.models/{base,sft,dpo}                   Hugging Face folders
         paths.data/decontaminate/heldout/*.parquet    documents no model was trained on
         paths.data/decontaminate/items.parquet        other tasks' items, as they were looked for
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
from typing import Any

from evals.clean import CleanDocuments
from evals.scores import Score, describe, metrics, with_clean
from llm.config.evaluation import BenchmarkConfig
from llm.files import write_dir, write_json
from llm.inference.engine import Engine
from llm.process import Context, main

MODELS = ("base", "sft", "dpo")
CHAT_MODELS = ("sft", "dpo")

logger = logging.getLogger(__name__)


def run(ctx: Context, *, benchmark: BenchmarkConfig) -> dict[str, Any]:
    """Score every model on every task; returns the metrics."""
    from evals.harness import load_tasks, score_model  # seconds: lm-eval brings pandas and more

    tasks = load_tasks(ctx, benchmark)
    clean = CleanDocuments(ctx.paths.stage("decontaminate"))
    results: dict[str, dict[str, Score]] = {}
    with write_dir(ctx.out) as out:
        for name in MODELS:
            engine = Engine.load(ctx.paths.model(name), device=benchmark.device)
            chat = name in CHAT_MODELS
            results[name] = with_clean(score_model(engine, tasks, benchmark, chat=chat), clean)
            write_json(out / f"{name}.json", {"model": name, "tasks": results[name]})
            logger.info("%s: %s", name, describe(results[name]))
    return metrics(results)


if __name__ == "__main__":
    main("benchmark", run, benchmark=BenchmarkConfig)
