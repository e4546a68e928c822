"""Two models' scores on the very same items, compared item by item."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from evals.significance import ratio_stderr
from llm.errors import EvaluationError

Score = Mapping[str, Any]  # of one task, as evals/benchmark.py has it


def compare_scores(candidate: Mapping[str, Score], champion: Mapping[str, Score]) -> dict[str, Any]:
    """Under `tasks` those that are right or wrong per item, under `bpb` bits per byte; by name."""
    found: dict[str, Any] = {"tasks": {}, "bpb": {}}
    for name, ours in candidate.items():
        theirs = champion[name]
        _check_items(name, ours, theirs)
        compare, part = (_bits, "bpb") if ours["metric"] == "bpb" else (_answers, "tasks")
        scores = {"candidate": ours["score"], "champion": theirs["score"]}
        row = {"metric": ours["metric"], "n": ours["n"], **scores}
        found[part][name] = row | compare(ours["samples"], theirs["samples"])
    return found


def p_worse(wins: int, losses: int) -> float:
    """Chance of at least so many losses among items that differ, were the models equally good.

    The exact one-sided sign test, for right and wrong the same as McNemar's; 1 when no item
    differs.
    """
    differing = wins + losses
    tail = sum(math.comb(differing, count) for count in range(losses, differing + 1))
    return tail / 2**differing


def _answers(ours: Sequence[Score], theirs: Sequence[Score]) -> dict[str, Any]:
    both = [(a["correct"], b["correct"]) for a, b in zip(ours, theirs, strict=True)]
    wins, losses = (both.count(pair) for pair in ((True, False), (False, True)))
    return {"wins": wins, "losses": losses, "p_worse": p_worse(wins, losses)}


def _bits(ours: Sequence[Score], theirs: Sequence[Score]) -> dict[str, Any]:
    """How many more bits per byte the candidate needs, and the standard error of that."""
    more = [a["bits"] - b["bits"] for a, b in zip(ours, theirs, strict=True)]
    increase, stderr = ratio_stderr(more, [row["bytes"] for row in ours])
    return {"increase": round(increase, 6), "stderr": round(stderr, 6)}


def _check_items(name: str, ours: Score, theirs: Score) -> None:
    if [row["id"] for row in ours["samples"]] != [row["id"] for row in theirs["samples"]]:
        raise EvaluationError(f"task {name}: the two models were not given the same items")
