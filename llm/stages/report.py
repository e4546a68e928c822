"""Stage report: the run on one page, and the cards that go with the model and the data.

Reads    metrics/*.json, timings/*.json      of every stage from gather to judge
         plots/{pretrain,sft,reward,dpo}.csv the loss curves
         plots/{pretrain,sft,dpo}.samples.jsonl  what the models wrote while they learnt
         data/benchmark, data/judge          scores, verdicts and samples
         data/decontaminate/heldout          first lines that the base model continues
         models/base                         to continue them
         dvc.lock, git                       lineage; what is not there is said to be missing
Writes   reports/report.html                 one file that asks for nothing else, offline
         reports/model_card.md, data_card.md
         plots/funnel.csv                    stage, documents
Metrics  report.json                         documents of the funnel by stage

The same inputs give the same page, but for timings and lineage (commit, hashes, versions),
which are of the run and not of its data.
"""

import hashlib
import logging
from pathlib import Path
from typing import Any

from llm.config.registry import ReportConfig
from llm.corpus.documents import read_documents
from llm.files import write_csv, write_dir, write_text
from llm.inference.engine import Engine
from llm.process import Context, main
from llm.report.facts import funnel, read_facts
from llm.report.lineage import code_lineage, stage_lineage

PROMPT_CHARACTERS = 200
ORIGINAL_CHARACTERS = 400

logger = logging.getLogger(__name__)


def run(ctx: Context, *, report: ReportConfig) -> dict[str, Any]:
    """Write the page, the cards and the funnel; returns the funnel."""
    from llm.report.page import page_values, render_card, render_page  # most of a second: charts

    facts = read_facts(ctx.paths)
    values = page_values(facts, title=report.title, samples_per_kind=report.samples_per_kind)
    values |= {
        "sampling": report.sampling,
        "continuations": continuations(ctx, report),
        "lineage": stage_lineage(ctx.paths, Path()),
        "code": code_lineage(ctx.paths),
    }
    with write_dir(Path(ctx.paths.reports)) as out:
        write_text(out / "report.html", render_page(facts, values))
        for card in ("model_card.md", "data_card.md"):
            write_text(out / card, render_card(card, values))
    write_csv(ctx.paths.plot("funnel"), funnel(facts))
    logger.info("wrote %s/report.html", ctx.paths.reports)
    return {"documents": {row["stage"]: row["documents"] for row in funnel(facts)}}


def continuations(ctx: Context, config: ReportConfig) -> list[dict[str, str]]:
    """What the base model makes of the first lines of some held-out documents, drawn by hash."""
    folder = ctx.paths.stage("decontaminate") / "heldout"
    texts = {row["id"]: row["text"] for row in read_documents(folder, ("id", "text"))}
    drawn = sorted(texts, key=lambda id_: hashlib.sha256(f"{config.seed} {id_}".encode()).digest())
    originals = [texts[id_] for id_ in drawn[: config.samples_per_kind]]
    prompts = [text.partition("\n")[0][:PROMPT_CHARACTERS] for text in originals]
    engine = Engine.load(ctx.paths.model("base"), device="cpu")
    written = engine.complete(prompts, config.sampling, seed=config.seed)
    return [
        {
            "prompt": prompt,
            "continuation": continuation.strip(),
            "original": text[len(prompt) :].strip()[:ORIGINAL_CHARACTERS],
        }
        for prompt, continuation, text in zip(prompts, written, originals, strict=True)
    ]


if __name__ == "__main__":
    main("report", run, report=ReportConfig)
