"""What benchmark says of a model: a score per task with its standard error, all of it and the clean part."""

from collections.abc import Container
from typing import Any

from evals.significance import mean_of_means, mean_stderr, paired_difference, ratio_stderr

Score = dict[str, Any]  # version, metric, score, stderr, n, clean (score, stderr, n), samples


def with_clean(scores: dict[str, Score], clean: Container[str]) -> dict[str, Score]:
    """The scores, and those of the items whose document is clean; each item says whether it is."""
    found = {}
    for task, score in scores.items():
        rows = [row | {"clean": row["document"] in clean} for row in score["samples"]]
        found[task] = score | {
            "clean": mean_score([row for row in rows if row["clean"]]),
            "samples": rows,
        }
    return found


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


def describe(scores: dict[str, Score]) -> str:
    return ", ".join(
        f"{name} {score['score']:.3f} ± {score['stderr']:.3f}" for name, score in scores.items()
    )


def mean_score(rows: list[dict[str, Any]]) -> dict[str, Any]:
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


def _exact(scores: dict[str, Score]) -> list[list[float]]:
    """Per exact-match task, whether each item was answered right."""
    return [
        [float(row["correct"]) for row in score["samples"]]
        for score in scores.values()
        if score["metric"] == "exact_match"
    ]


def _round(value: float) -> float:
    return round(value, 6)
