"""What the stages wrote, read for the report; what is missing or malformed is named."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm.config import stages
from llm.config.base import value_at
from llm.config.paths import Paths
from llm.errors import DataError
from llm.files import read_json, read_jsonl, read_text

CORPUS = ("gather", "extract", "filter", "dedup", "decontaminate")
TRAINED = ("pretrain", "sft", "reward", "dpo")
STAGES = tuple(stage for stage in stages.STAGES if stage not in ("report", "register"))
MODELS = ("base", "sft", "dpo")
PUBLISHED = {"gpt2": "GPT-2", "llama": "Llama", "qwen3": "Qwen3"}  # by model_type

Curve = list[dict[str, float]]  # rows by step; a value that was not measured has no key


@dataclass(frozen=True)
class Facts:
    """Everything the report says about a run, but for its lineage."""

    paths: Paths
    metrics: dict[str, dict[str, Any]]  # stage -> metrics
    timings: dict[str, dict[str, float]]  # stage -> wall_s, peak_rss_mb, ...
    curves: dict[str, Curve]  # training stage -> curve
    benchmark: dict[str, dict[str, Any]]  # model -> task -> score and samples
    verdicts: list[dict[str, Any]]
    model_type: str  # of the base model: a published one, or ours: lstm, transformer

    @property
    def architecture(self) -> str:
        """In words; a transformer without a published architecture has none of its own."""
        return PUBLISHED.get(self.model_type, {"lstm": "LSTM"}.get(self.model_type, "own parts"))

    @property
    def exportable(self) -> bool:
        """Whether the model folders load in transformers as they are."""
        return self.model_type in PUBLISHED

    def number(self, stage: str, *keys: str) -> float:
        """A stage's metric; DataError names file and key when it is not there."""
        value: Any = self.metrics[stage]
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if not isinstance(value, (int, float)):
            raise DataError(
                f"{self.paths.metric(stage)}: no number {' > '.join(keys)!r}; `dvc repro {stage}` "
                "writes it"
            )
        return value

    def counts(self, stage: str, key: str) -> dict[str, int]:
        """A stage's counts by name, e.g. of dropped documents by rule, largest first."""
        value = self.metrics[stage].get(key)
        if not isinstance(value, Mapping):
            raise DataError(f"{self.paths.metric(stage)}: no counts {key!r}")
        return dict(sorted(value.items(), key=lambda item: (-item[1], item[0])))


def read_facts(paths: Paths) -> Facts:
    """Read every file that the report rests on; DataError names the first that is missing."""
    return Facts(
        paths=paths,
        metrics={stage: read_json(paths.metric(stage)) for stage in STAGES},
        timings={stage: read_json(paths.timing(stage)) for stage in STAGES},
        curves={stage: read_curve(paths, stage) for stage in TRAINED},
        benchmark={
            model: read_json(paths.stage("benchmark") / f"{model}.json")["tasks"]
            for model in MODELS
        },
        verdicts=list(read_jsonl(paths.stage("judge") / "verdicts.jsonl", ("judge",))),
        model_type=read_model_type(paths),
    )


def read_model_type(paths: Paths) -> str:
    """`model_type` of the base model's config.json, or what our own kind of network is."""
    path = paths.model("base") / "config.json"
    values = read_json(path)
    kind = value_at(values, "model.kind") or values.get("model_type")
    if not isinstance(kind, str):
        raise DataError(f"{path} has no model_type; `dvc repro pretrain` writes it")
    return kind


def funnel(facts: Facts) -> list[dict[str, Any]]:
    """Documents after each corpus stage."""
    left = {"gather": "documents"}
    return [
        {"stage": stage, "documents": facts.number(stage, left.get(stage, "documents_kept"))}
        for stage in CORPUS
    ]


def dropped(facts: Facts) -> list[dict[str, Any]]:
    """Why documents left, stage by stage: rows of stage, reason, documents."""
    reasons = {
        "extract": facts.counts("extract", "failed"),
        "filter": facts.counts("filter", "dropped"),
        "dedup": {
            "same text": facts.number("dedup", "exact"),
            "nearly the same text": facts.number("dedup", "near"),
        },
        "decontaminate": {
            "held out for evaluation": facts.number("decontaminate", "heldout"),
            "shares text with what is held out": facts.number("decontaminate", "dropped"),
        },
    }
    return [
        {"stage": stage, "reason": reason.replace("_", " "), "documents": documents}
        for stage, counts in reasons.items()
        for reason, documents in counts.items()
        if documents
    ]


def series(curve: Curve) -> list[dict[str, Any]]:
    """A curve's losses as rows of series, step, value."""
    return [
        {"series": name, "step": row["step"], "value": row[column]}
        for name, column in (("train", "train/loss"), ("validation", "val/loss"))
        for row in curve
        if column in row
    ]


def scores(facts: Facts, metrics: tuple[str, ...]) -> list[dict[str, Any]]:
    """Rows of task, model, score and its 95 % interval, of the tasks graded by one of `metrics`."""
    rows = []
    for task in facts.benchmark["base"]:
        for model in MODELS:
            entry = facts.benchmark[model][task]
            if entry["metric"] in metrics:
                margin = 1.96 * entry["stderr"]
                interval = {"low": entry["score"] - margin, "high": entry["score"] + margin}
                if "bpb" not in metrics:
                    interval = {key: min(1.0, max(0.0, at)) for key, at in interval.items()}
                rows.append({"task": task, "model": model, **entry, **interval})
    return rows


def samples(facts: Facts, per_kind: int) -> dict[str, list[dict[str, Any]]]:
    """The first items of each exact-match task, in hash order, with every model's answer."""
    found = {}
    for task, entry in facts.benchmark["base"].items():
        if entry["metric"] != "exact_match":
            continue
        rows = zip(*(facts.benchmark[m][task]["samples"][:per_kind] for m in MODELS), strict=True)
        found[task] = [
            {
                "prompt": answers[0]["prompt"],
                "reference": answers[0]["reference"],
                "answers": [
                    {"model": model, "text": answer["answer"], "correct": answer["correct"]}
                    for model, answer in zip(MODELS, answers, strict=True)
                ],
            }
            for answers in rows
        ]
    return found


def read_curve(paths: Paths, stage: str) -> Curve:
    """A training stage's curve; DataError when it is missing or malformed."""
    path = paths.plot(stage)
    rows = list(csv.DictReader(read_text(path).splitlines()))
    if not rows:
        raise DataError(f"{path} has no rows; `dvc repro {stage}` writes it")
    try:
        return [{key: float(value) for key, value in row.items() if value} for row in rows]
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None
