"""The gates of a promotion: pure functions from measured evidence to a verdict.

    for verdict in judge_evidence(evidence, promote): ...

Evidence (llm/registry/evidence.py) is nested mappings of numbers. Gates fail closed: a
number that is missing or not finite, and a champion whose numbers cannot be had, fail the
gate that needs them. Without any champion a comparison has nothing to say and passes;
what is measured of the candidate alone counts all the same.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llm.config.promote import PromoteConfig

Evidence = Mapping[str, Any]
Finding = tuple[bool, str]  # passed, and what was found, in words with numbers

ALONE = "no champion to compare with"
Z_95 = 1.959964  # of a two-sided interval


@dataclass(frozen=True)
class Verdict:
    """One line of the table."""

    gate: str
    passed: bool
    evidence: str
    threshold: str


class Missing(Exception):
    """A number that a gate needs is not there; the message says which, and why if that is known."""


def judge_evidence(evidence: Evidence, promote: PromoteConfig) -> list[Verdict]:
    """The verdict of every gate in `promote.gates`, in that order."""
    return [_verdict(name, evidence, promote) for name in promote.gates]


def tasks(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """No task's one-sided p of being worse survives Holm's correction over all tasks."""
    if not _has_champion(evidence):
        return True, ALONE
    scored = _mapping(evidence, "scores", "tasks")
    p_values = {name: _number(evidence, "scores", "tasks", name, "p_worse") for name in scored}
    corrected = holm(p_values)
    worst = sorted(corrected, key=lambda name: (corrected[name], p_values[name]))
    failed = [name for name in worst if corrected[name] <= promote.tasks.alpha]
    named = failed or worst[:1]
    told = "; ".join(_task_words(evidence, name, corrected[name]) for name in named)
    beginning = "significantly worse:" if failed else f"{len(scored)} tasks, nearest to worse:"
    return not failed, f"{beginning} {told}"


def bpb(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """The upper end of the 95 % interval of each increase is within what is allowed."""
    if not _has_champion(evidence):
        return True, ALONE
    told, passed = [], True
    for name in _mapping(evidence, "scores", "bpb"):
        ours, theirs, increase, stderr = (
            _number(evidence, "scores", "bpb", name, key)
            for key in ("candidate", "champion", "increase", "stderr")
        )
        high = increase + Z_95 * stderr
        passed &= high <= promote.bpb.max_increase
        told.append(
            f"{name} {ours:.3f}, champion's {theirs:.3f}: {increase:+.3f} ± {stderr:.3f}, "
            f"at most {high:+.3f}"
        )
    return passed, "; ".join(told)


def judge(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """The judge's win rate against the champion is not clearly below the least."""
    if not _has_champion(evidence):
        return True, ALONE
    rate, low, high, pairs = (
        _number(evidence, "judge", key)
        for key in ("win_rate", "win_rate_low", "win_rate_high", "judged_pairs")
    )
    told = f"wins {rate:.1%} of {pairs:.0f} pairs, 95 % interval {low:.1%} to {high:.1%}"
    return high >= promote.judge.min_win_rate, told


def safety(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """Few enough answers show what they must not."""
    answers, unsafe = (_number(evidence, "safety", key) for key in ("answers", "unsafe"))
    if not answers:
        raise Missing("no answer was looked at")
    kinds = _at(evidence, "safety", "by_rule") or {}
    listed = f" ({', '.join(f'{name} {count}' for name, count in kinds.items())})" if kinds else ""
    told = f"{unsafe:.0f} of {answers:.0f} answers unsafe{listed}, {unsafe / answers:.1%}"
    return unsafe / answers <= promote.safety.max_unsafe_frac, told


def contamination(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """Few enough training documents share words in a row with an evaluation item.

    Counted anew with this project's measure, or by the stage itself, which also looks for the
    items of decontaminate.evaluation_sets; the larger number counts.
    """
    documents, counted, reported = (
        _number(evidence, "contamination", key) for key in ("documents", "sharing", "reported")
    )
    if not documents:
        raise Missing("no training document was looked at")
    sharing = max(counted, reported)
    told = (
        f"{sharing:,.0f} of {documents:,.0f} training documents share "
        f"{promote.contamination.ngram_words} words in a row with an evaluation item, "
        f"{sharing / documents:.2%} (the stage itself left {reported:,.0f})"
    )
    return sharing / documents <= promote.contamination.max_frac, told


def latency(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """An answer takes neither too long nor too much longer than the champion's."""
    ours = _number(evidence, "latency", "candidate")
    passed, told = ours <= promote.latency.max_answer_s, f"{ours:.3g} s per answer"
    if not _has_champion(evidence):
        return passed, f"{told}; {ALONE}"
    ratio = _ratio(ours, _number(evidence, "latency", "champion"))
    told += f", champion's {evidence['latency']['champion']:.3g} s, ratio {ratio:.2f}"
    return passed and ratio <= promote.latency.max_ratio, told


def size(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """The folder is neither too large nor too much larger than the champion's."""
    ours = _number(evidence, "size", "candidate")
    passed, told = ours <= promote.size.max_bytes, f"{ours:,.0f} bytes"
    if not _has_champion(evidence):
        return passed, f"{told}; {ALONE}"
    ratio = _ratio(ours, _number(evidence, "size", "champion"))
    told += f", champion's {evidence['size']['champion']:,.0f}, ratio {ratio:.2f}"
    return passed and ratio <= promote.size.max_ratio, told


def lineage(evidence: Evidence, promote: PromoteConfig) -> Finding:
    """A clean commit, every stage's hashes, and weights that are those of the run."""
    outs, stages = (_number(evidence, "lineage", key) for key in ("outs", "stages"))
    problems = _at(evidence, "lineage", "problems")
    if not isinstance(problems, list):
        raise Missing("no word about problems of the lineage")
    commit = str(_at(evidence, "lineage", "git_commit"))[:12]
    told = f"commit {commit}, {outs:.0f} outs of {stages:.0f} stages with hashes"
    return not problems, "; ".join([told, *problems])


GATES: Mapping[str, Callable[[Evidence, PromoteConfig], Finding]] = {
    "tasks": tasks,
    "bpb": bpb,
    "judge": judge,
    "safety": safety,
    "contamination": contamination,
    "latency": latency,
    "size": size,
    "lineage": lineage,
}


def threshold(gate: str, promote: PromoteConfig) -> str:
    """What the gate asks for, in words."""
    words = {
        "tasks": f"no task worse at level {promote.tasks.alpha:g} (paired, Holm)",
        "bpb": f"at most {promote.bpb.max_increase:+g} bits per byte, 95 % sure",
        "judge": f"interval not below {promote.judge.min_win_rate:.0%}",
        "safety": f"at most {promote.safety.max_unsafe_frac:.1%}",
        "contamination": f"at most {promote.contamination.max_frac:.2%}",
        "latency": (
            f"at most {promote.latency.max_ratio:g} x the champion's, "
            f"and {promote.latency.max_answer_s:g} s"
        ),
        "size": (
            f"at most {promote.size.max_ratio:g} x the champion's, "
            f"and {promote.size.max_bytes:,} bytes"
        ),
        "lineage": "clean commit, all hashes, the run's weights",
    }
    return words[gate]


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each p corrected for their number (Holm 1979): significant when it is at most alpha."""
    corrected, running = {}, 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        running = max(running, min(1.0, (len(ordered) - rank) * p_values[name]))
        corrected[name] = running
    return corrected


def _verdict(name: str, evidence: Evidence, promote: PromoteConfig) -> Verdict:
    try:
        passed, told = GATES[name](evidence, promote)
    except Missing as missing:
        passed, told = False, str(missing)
    return Verdict(name, passed, told, threshold(name, promote))


def _has_champion(evidence: Evidence) -> bool:
    """False when there is no champion; Missing when there is one that cannot be measured."""
    if "champion" not in evidence:
        raise Missing("the evidence does not say whether there is a champion")
    if reason := evidence.get("champion_error"):
        raise Missing(f"the champion's numbers cannot be had: {reason}")
    return evidence["champion"] is not None


def _at(evidence: Evidence, *keys: str) -> Any:
    """The value under nested keys; None when it is not there."""
    value: Any = evidence
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _number(evidence: Evidence, *keys: str) -> float:
    """The number under nested keys."""
    value = _at(evidence, *keys)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Missing(_reason(evidence, keys[0]) or f"no number {' > '.join(keys)}")
    if not math.isfinite(value):
        raise Missing(f"{' > '.join(keys)} is {value}, which is no number to judge by")
    return float(value)


def _mapping(evidence: Evidence, *keys: str) -> Mapping[str, Any]:
    """The mapping under nested keys, which is not empty."""
    value = _at(evidence, *keys)
    if not isinstance(value, Mapping) or not value:
        raise Missing(_reason(evidence, keys[0]) or f"no numbers {' > '.join(keys)}")
    return value


def _reason(evidence: Evidence, part: str) -> str | None:
    """Why a part of the evidence could not be measured, if that is what happened."""
    error = _at(evidence, part, "error")
    return f"not measured: {error}" if error else None


def _ratio(ours: float, theirs: float) -> float:
    if theirs <= 0:
        raise Missing(f"the champion's number is {theirs:g}, which gives no ratio")
    return ours / theirs


def _task_words(evidence: Evidence, name: str, p: float) -> str:
    ours, theirs, items = (
        _number(evidence, "scores", "tasks", name, key) for key in ("candidate", "champion", "n")
    )
    shown = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
    return f"{name} {ours:.3f}, champion's {theirs:.3f} ({items:.0f} items, {shown})"
