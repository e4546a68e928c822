"""What a run made, as artifacts on its page in Prefect: read from the files that its stages wrote.

The stages know nothing of Prefect. Nothing of this may fail a run: what a file lacks, or a
server that is away, is in the log, and the artifact is left out.
"""

import base64
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate
from prefect.exceptions import PrefectException

from flows.links import report_link, version_link
from llm.config.params import Params
from llm.config.paths import Paths
from llm.errors import LLMError
from llm.files import read_json
from llm.report.facts import (
    CORPUS,
    MODELS,
    TRAINED,
    Facts,
    dropped,
    funnel,
    read_curve,
    samples,
    series,
)

SHOWN_SAMPLES = 3  # per kind of question
CELL_CHARACTERS = 300
INK = "#8a9099"  # readable on the light and on the dark page

logger = logging.getLogger(__name__)


class Artifacts:
    """Shows results of a flow run on its page, stage by stage."""

    def __init__(self, flow_run_id: str, folder: Path, params: Params) -> None:
        self._flow_run = UUID(flow_run_id)
        roots = params.paths.model_dump()
        self._paths = Paths(**{name: str(folder / root) for name, root in roots.items()})

    def publish(self, stage: str) -> None:
        """Show what there is to see once `stage` is done."""
        for key, text in self._texts(stage):
            self.show(key, text)

    def show(self, key: str, text: str) -> None:
        """Markdown under a key, which in the UI names its history over runs."""
        title = text.partition("\n")[0].removeprefix("# ")
        new = ArtifactCreate(
            type="markdown", key=key, description=title, data=text, flow_run_id=self._flow_run
        )
        try:
            with get_client(sync_client=True) as client:
                client.create_artifact(new)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("artifact %s is not shown: %s", key, error)

    def _texts(self, stage: str) -> list[tuple[str, str]]:
        writers: dict[str, dict[str, Callable[[Paths], str]]] = {
            CORPUS[-1]: {"corpus": corpus_text},
            **{trained: {f"curve-{trained}": curve_writer(trained)} for trained in TRAINED},
            "benchmark": {"scores": scores_text, "samples": samples_text},
            "judge": {"judge": judge_text},
            "register": {"version": version_text},
        }
        texts = []
        for key, write in writers.get(stage, {}).items():
            try:
                texts.append((key, write(self._paths)))
            except (LLMError, LookupError, ValueError) as error:
                logger.warning("artifact %s is left out: %s", key, error)
        return texts


def corpus_text(paths: Paths) -> str:
    """Documents left after each corpus stage, and why the others went."""
    facts = _facts(paths, CORPUS)
    steps = funnel(facts)
    first = max(1, steps[0]["documents"])
    left = [
        (step["stage"], _count(step["documents"]), f"{100 * step['documents'] / first:.1f} %")
        for step in steps
    ]
    gone = [(row["stage"], row["reason"], _count(row["documents"])) for row in dropped(facts)]
    return (
        f"# Corpus\n\n{table(('stage', 'documents left', 'of the gathered'), left)}\n\n"
        f"## Dropped\n\n{table(('stage', 'reason', 'documents'), gone)}\n"
    )


def curve_writer(stage: str) -> Callable[[Paths], str]:
    """Writes the loss curve of a training stage, a picture."""

    def write(paths: Paths) -> str:
        from llm.report.charts import curve_chart  # takes a second to import

        curve = read_curve(paths, stage)
        rows = series(curve)
        ends = {row["series"]: row["value"] for row in rows}
        said = ", ".join(f"{name} {value:.3f}" for name, value in ends.items())
        svg = curve_chart(rows, "loss, nats", f"Loss of {stage}").replace("currentColor", INK)
        picture = base64.b64encode(svg.encode()).decode()
        return (
            f"# {stage}\n\nLoss over {curve[-1]['step']:.0f} steps; at the end {said}.\n\n"
            f'<img alt="loss of {stage}" width="480" src="data:image/svg+xml;base64,{picture}">\n'
        )

    return write


def scores_text(paths: Paths) -> str:
    """Every task's score of every model, with its standard error."""
    tasks = _benchmark(paths)
    rows = [
        (task, entry["metric"], entry["n"], *(_score(tasks[model][task]) for model in MODELS))
        for task, entry in tasks[MODELS[0]].items()
    ]
    return f"# Scores\n\n± standard error\n\n{table(('task', 'metric', 'items', *MODELS), rows)}\n"


def samples_text(paths: Paths) -> str:
    """Some questions with the reference and every model's answer."""
    facts = _facts(paths, (), benchmark=_benchmark(paths))
    parts = ["# Samples"]
    for task, items in samples(facts, SHOWN_SAMPLES).items():
        parts += [f"## {plain(task)}", *(_sample_text(item) for item in items)]
    return "\n\n".join(parts) + "\n"


def judge_text(paths: Paths) -> str:
    """How often the judge prefers dpo to sft."""
    facts = _facts(paths, ("judge",))
    names = ("win_rate", "win_rate_low", "win_rate_high")
    rate, low, high = (100 * facts.number("judge", name) for name in names)
    return (
        f"# Judge\n\ndpo preferred to sft in {rate:.1f} % of {facts.number('judge', 'pairs'):.0f} "
        f"pairs, 95 % interval {low:.1f} to {high:.1f} %.\n"
    )


def version_text(paths: Paths) -> str:
    """The registered version, with links into MLflow."""
    version = read_json(paths.stage("register") / "version.json")
    return (
        f"# {version['name']} version {version['version']}\n\n"
        f"The model {version['model']}, alias `{version['alias']}`.\n\n"
        f"{version_link(version['name'], version['version'])}\n\n{report_link(version['run_id'])}\n"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; what a document or a model said adds no markup to it."""
    lines = [header, ["---"] * len(header), *([plain(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def plain(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line, cut where it is very long."""
    cut = text if len(text) <= CELL_CHARACTERS else f"{text[:CELL_CHARACTERS]} …"
    return re.sub(r"([\\`*_\[\]<>|~#!&])", r"\\\1", " ".join(cut.split()))


def _sample_text(item: dict[str, Any]) -> str:
    answers = [
        f"- {answer['model']} {'✓' if answer['correct'] else '✗'} {plain(answer['text'])}"
        for answer in item["answers"]
    ]
    reference = f"- reference: {plain(item['reference'])}"
    return "\n".join([f"**{plain(item['prompt'])}**\n", reference, *answers])


def _facts(paths: Paths, stages: Sequence[str], benchmark: dict[str, Any] | None = None) -> Facts:
    metrics = {stage: read_json(paths.metric(stage)) for stage in stages}
    unread: dict[str, Any] = {"timings": {}, "curves": {}, "verdicts": [], "model_type": ""}
    return Facts(paths, metrics, benchmark=benchmark or {}, **unread)


def _benchmark(paths: Paths) -> dict[str, Any]:
    folder = paths.stage("benchmark")
    return {model: read_json(folder / f"{model}.json")["tasks"] for model in MODELS}


def _score(entry: dict[str, Any]) -> str:
    return f"{entry['score']:.3f} ± {entry['stderr']:.3f}"


def _count(number: float) -> str:
    return f"{round(number):,}"
