"""Facts as words and tables, and the templates filled with them.

The page is one file that asks for nothing else. What a document or a model said is
escaped: it can add no markup.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from llm.report import charts
from llm.report.facts import (
    MODELS,
    STAGES,
    TRAINED,
    Curve,
    Facts,
    dropped,
    funnel,
    samples,
    scores,
    series,
)
from llm.report.learning import norm_charts, written
from llm.report.lineage import lineage_picture

TEMPLATES = Path(__file__).parent / "templates"
JUDGES = {
    "reward": "the pipeline's own reward model",
    "openai": "a language model behind an OpenAI-compatible endpoint",
}
STAGE_WORDS = {
    "gather": "gathered",
    "extract": "extracted",
    "filter": "filtered",
    "dedup": "deduplicated",
    "decontaminate": "to train on",
}


def page_values(facts: Facts, *, title: str, samples_per_kind: int) -> dict[str, Any]:
    """What the templates show, but for lineage and continuations."""
    return {
        "title": title,
        "models": MODELS,
        "parameters": facts.number("pretrain", "parameters"),
        "architecture": facts.architecture,
        "network": "recurrent network (LSTM)" if facts.model_type == "lstm" else "transformer",
        "exportable": facts.exportable,
        "tokens": facts.number("pretrain", "tokens"),
        "tiles": _tiles(facts),
        "funnel": funnel(facts),
        "dropped": dropped(facts),
        "sources": facts.metrics["gather"]["by_source"],
        "token_rows": _token_rows(facts),
        "heldout": facts.number("decontaminate", "heldout"),
        "contaminated": facts.number("decontaminate", "contaminated"),
        "loss_note": _loss_note(facts),
        "score_note": _score_note(facts),
        "score_rows": _score_rows(facts),
        "clean_note": _clean_note(facts),
        "judge_name": JUDGES[facts.verdicts[0]["judge"]],
        "judge_rows": _judge_rows(facts),
        "samples": samples(facts, samples_per_kind),
        "written": written(facts.paths),
        "timings": [_timing(stage, facts.timings[stage]) for stage in STAGES],
    }


def render_page(facts: Facts, values: Mapping[str, Any]) -> str:
    """report.html: the values and the charts."""
    pictures = {
        "funnel_svg": Markup(_funnel_chart(values["funnel"])),
        "curves": [_curve(stage, facts.curves[stage]) for stage in TRAINED],
        "norm_charts": norm_charts(facts.curves),
        "score_charts": _score_charts(facts),
        "lineage_svg": Markup(lineage_picture(values["lineage"], facts.metrics)),
    }
    return _template("page.html", autoescape=True).render(**values, **pictures)


def render_card(name: str, values: Mapping[str, Any]) -> str:
    """model_card.md or data_card.md."""
    return _template(name, autoescape=False).render(**values)


def count(value: float) -> str:
    """A whole number with thousands separated."""
    return f"{round(value):,}"


def short_count(value: float) -> str:
    """A number in three digits: 950, 3.46 M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as a person says them: 8.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else _hours(minutes)


def _hours(minutes: int) -> str:
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _tiles(facts: Facts) -> list[dict[str, str]]:
    wall = sum(facts.timings[stage]["wall_s"] for stage in STAGES)
    peak = max(facts.timings[stage]["peak_rss_mb"] for stage in STAGES)
    exact = [_with_error(facts, model) for model in MODELS]
    tokens = facts.number("pretrain", "tokens")
    tiles = [
        ("parameters", short_count(facts.number("pretrain", "parameters")), facts.architecture),
        ("tokens trained on", short_count(tokens), "in pretraining"),
        (
            "bits per byte, held-out text",
            f"{facts.number('pretrain', 'val/bpb'):.3f}",
            f"an order-2 byte model: {facts.number('tokenize', 'order2_bpb'):.3f}",
        ),
        (
            "right answers, word for word",
            exact[-1],
            f"dpo; sft {exact[1]}, base {exact[0]}",
        ),
        (
            "dpo preferred to sft",
            _percent(facts, "win_rate", 0),
            f"95 % interval {_interval(facts)}",
        ),
        ("time and peak memory", duration(wall), f"peak {peak / 1024:.1f} GiB in one stage"),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in tiles]


def _with_error(facts: Facts, model: str) -> str:
    score = facts.number("benchmark", model, "exact_match")
    stderr = facts.number("benchmark", model, "exact_match_stderr")
    return f"{100 * score:.1f} ± {100 * stderr:.1f} %"


def _interval(facts: Facts) -> str:
    low, high = (100 * facts.number("judge", f"win_rate_{end}") for end in ("low", "high"))
    return f"{low:.0f} to {high:.0f} %"


def _percent(facts: Facts, key: str, digits: int = 1) -> str:
    """A share among the judge's metrics, with its standard error where there is one."""
    share = f"{100 * facts.number('judge', key):.{digits}f}"
    if f"{key}_stderr" not in facts.metrics["judge"]:
        return f"{share} %"
    return f"{share} ± {100 * facts.number('judge', f'{key}_stderr'):.{digits}f} %"


def _token_rows(facts: Facts) -> list[dict[str, str]]:
    """How the tokenizer does on held-out text, and what each source gives to training."""
    rows = []
    for kind in ("source", "language"):
        measured = facts.metrics["tokenizer"][f"by_{kind}"]
        given = facts.metrics["tokenize"]["by_source"] if kind == "source" else {}
        for name in sorted({*measured, *given}):
            row = dict.fromkeys(("bytes_per_token", "fertility", "tokens", "share"), "")
            if name in measured:
                row |= {
                    key: f"{measured[name][key]:.2f}" for key in ("bytes_per_token", "fertility")
                }
            if name in given:
                row |= {"tokens": count(given[name]["tokens"])}
                row |= {"share": f"{100 * given[name]['share']:.1f} %"}
            rows.append({"kind": kind, "name": name, **row})
    return rows


def _loss_note(facts: Facts) -> str:
    size = short_count(facts.number("pretrain", "parameters"))
    return (
        f"The base model ({facts.architecture}, {size} parameters) reads held-out text at "
        f"{facts.number('pretrain', 'val/bpb'):.3f} bits per byte; a byte model of order 2, "
        "counted on the same training text, needs "
        f"{facts.number('tokenize', 'order2_bpb'):.3f}."
    )


def _score_note(facts: Facts) -> str:
    gains = []
    for model in MODELS[1:]:
        gain = facts.number("benchmark", model, "over_base", "exact_match")
        stderr = facts.number("benchmark", model, "over_base", "stderr")
        away = f"{gain / stderr:.1f} standard errors" if stderr else "no spread"
        gains.append(f"{model} by {100 * gain:+.1f} points ({away}, paired)")
    return f"On the exact-match tasks the models differ from base: {', '.join(gains)}."


def _score_rows(facts: Facts) -> list[dict[str, Any]]:
    """A row per task; below it, where they are fewer, one of its clean items."""
    rows = []
    for task, entry in facts.benchmark["base"].items():
        scored = [facts.benchmark[model][task] for model in MODELS]
        rows.append(_score_row(task, entry["metric"], scored))
        clean = [score["clean"] for score in scored]
        if clean[0]["n"] != entry["n"]:
            rows.append(_score_row(f"{task}, clean", entry["metric"], clean))
    return rows


def _score_row(task: str, metric: str, scored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    cells = [
        f"{score['score']:.3f} ± {score['stderr']:.3f}" if score["n"] else "none"
        for score in scored
    ]
    return {"task": task, "metric": metric, "n": scored[0]["n"], "cells": cells}


def _clean_note(facts: Facts) -> str:
    """How many items are clean."""
    tasks = facts.benchmark["base"].values()
    items, clean = sum(task["n"] for task in tasks), sum(task["clean"]["n"] for task in tasks)
    return (
        f"{count(clean)} of {count(items)} items are clean: the document they are made of shares no "
        "n-gram with text that was trained on."
    )


def _judge_rows(facts: Facts) -> list[dict[str, str]]:
    def number(key: str) -> str:
        return count(facts.number("judge", key))

    rows = [
        (
            "dpo preferred to sft",
            _percent(facts, "win_rate"),
            f"ties as half; 95 % interval {_interval(facts)}",
        ),
        (
            "won, tied, lost",
            ", ".join(map(number, ("wins", "ties", "losses"))),
            f"of {number('pairs')} prompts; {number('identical_pairs')} answers were the same",
        ),
        (
            "verdicts that turn with the order",
            _percent(facts, "order_flip_rate"),
            "position bias: pairs whose winner changes when the answers change places",
        ),
        ("replies without a clear verdict", number("unparsed"), "counted for neither side"),
    ]
    if "accuracy" in facts.metrics["judge"]:
        note = f"of {number('accuracy_pairs')} held-out pairs; 50 % is chance"
        rows.append(("the judge's own accuracy", _percent(facts, "accuracy"), note))
    if "exact_agreement" in facts.metrics["judge"]:
        note = f"of {number('exact_agreement_pairs')} pairs in which one answer alone is right"
        rows.append(("names the answer that is right", _percent(facts, "exact_agreement"), note))
    return [{"name": name, "value": value, "note": note} for name, value, note in rows]


def _timing(stage: str, timing: Mapping[str, float]) -> dict[str, str]:
    return {
        "stage": stage,
        "wall": duration(timing["wall_s"]),
        "memory": f"{timing['peak_rss_mb'] / 1024:.2f} GiB",
    }


def _funnel_chart(rows: Sequence[Mapping[str, Any]]) -> str:
    first = max(1, rows[0]["documents"])
    bars = [
        {
            "stage": STAGE_WORDS[row["stage"]],
            "documents": row["documents"],
            "label": f"{count(row['documents'])} ({100 * row['documents'] / first:.0f} %)",
        }
        for row in rows
    ]
    said = ", ".join(f"{bar['stage']} {bar['label']}" for bar in bars)
    return charts.bar_chart(bars, f"Bar chart of documents left after each corpus stage: {said}.")


def _curve(stage: str, curve: Curve) -> dict[str, Any]:
    rows = series(curve)
    ends = {row["series"]: row["value"] for row in rows}  # the last value of each
    said = ", ".join(f"{name} {value:.3f}" for name, value in ends.items())
    text = f"Loss of {stage} over {curve[-1]['step']:.0f} steps; at the end {said}."
    return {
        "stage": stage,
        "svg": Markup(charts.curve_chart(rows, "loss, nats", text)),
        "note": f"At the end: {said}",
    }


def _score_charts(facts: Facts) -> list[dict[str, Any]]:
    groups = (
        ("Right answers, word for word", ("exact_match",), "exact match", "Higher is better."),
        (
            "Choosing among four options",
            ("acc", "acc_norm"),
            "accuracy",
            "Higher is better; chance is 0.25.",
        ),
        ("Bits per byte of held-out documents", ("bpb",), "bits per byte", "Lower is better."),
    )
    shown = []
    for title, metrics, x_title, note in groups:
        rows = scores(facts, metrics)
        if rows:
            said = ", ".join(f"{r['task']} {r['model']} {r['score']:.3f}" for r in rows)
            plotted = [_point(row) for row in rows]
            svg = Markup(charts.score_chart(plotted, x_title, f"{title}: {said}."))
            shown.append({"title": title, "svg": svg, "note": note})
    return shown


def _point(row: Mapping[str, Any]) -> dict[str, Any]:
    point = {key: row[key] for key in ("model", "score", "low", "high")}
    return point | {"task": row["task"].removeprefix("docs_").replace("_", " ")}


def page_template(name: str):
    """A page that extends page.html."""
    return _template(name, autoescape=True)


def _template(name: str, *, autoescape: bool):
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=autoescape,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["count"] = count
    return environment.get_template(name)
