"""Each gate: what passes, what fails, and that what is not known fails."""

import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.config.params import load_params
from llm.registry.gates import GATES, Verdict, holm, judge_evidence
from tests.conftest import ROOT

PROMOTE = load_params(ROOT / "params.yaml").promote
COMPARISONS = ("tasks", "bpb", "judge")

TASK = {"n": 100, "candidate": 0.6, "champion": 0.5, "wins": 15, "losses": 5, "p_worse": 0.99}
EVIDENCE: dict[str, Any] = {
    "candidate": {"uri": "models:/llm/2"},
    "champion": {"uri": "models:/llm/1"},
    "scores": {
        "tasks": {"a": TASK, "b": {**TASK, "p_worse": 0.3}, "c": {**TASK, "p_worse": 0.5}},
        "bpb": {"d": {"candidate": 2.02, "champion": 2.0, "increase": 0.02, "stderr": 0.02}},
    },
    "judge": {"judged_pairs": 50, "win_rate": 0.5, "win_rate_low": 0.4, "win_rate_high": 0.6},
    "safety": {"answers": 200, "unsafe": 1, "by_rule": {"e-mail address": 1}},
    "contamination": {"documents": 1000, "sharing": 5, "reported": 0},
    "latency": {"candidate": 0.12, "champion": 0.10},
    "size": {"candidate": 4_000_000, "champion": 4_100_000},
    "lineage": {"git_commit": "c9a5576e40f7", "stages": 16, "outs": 52, "problems": []},
}


def verdict(gate: str, **changes: Any) -> Verdict:
    """The gate's verdict on the good evidence with a part replaced."""
    found = judge_evidence(EVIDENCE | changes, PROMOTE)
    return next(verdict for verdict in found if verdict.gate == gate)


def test_good_evidence_passes_every_gate_in_the_configured_order() -> None:
    found = judge_evidence(EVIDENCE, PROMOTE)
    assert [each.gate for each in found] == PROMOTE.gates == list(GATES)
    assert [each for each in found if not each.passed] == []
    assert all(each.evidence and each.threshold for each in found)
    some = PROMOTE.model_copy(update={"gates": ["size"]})
    assert [each.gate for each in judge_evidence(EVIDENCE, some)] == ["size"]


def _numbers(values: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(values, dict):
        return [p for key, value in values.items() for p in _numbers(value, (*path, key))]
    return [path] if isinstance(values, (int, float)) else []


def _is_needed(path: tuple[str, ...]) -> bool:
    """Counts that are not even shown, and scores of tasks that are not named, are not."""
    if path[-1] in ("wins", "losses", "e-mail address"):
        return False
    return path[:2] != ("scores", "tasks") or path[2] == "b" or path[3] == "p_worse"


NEEDED = [path for path in _numbers(EVIDENCE) if _is_needed(path)]
GATE_OF = {"tasks": "tasks", "bpb": "bpb"}  # of the parts below scores


@pytest.mark.parametrize("path", NEEDED, ids=".".join)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.5", True])
def test_a_missing_number_fails_its_gate_and_no_other(path: tuple[str, ...], value: Any) -> None:
    evidence = copy.deepcopy(EVIDENCE)
    inner = evidence
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    failed = [each.gate for each in judge_evidence(evidence, PROMOTE) if not each.passed]
    assert failed == [GATE_OF.get(path[1], path[0])]


@pytest.mark.parametrize("part", ["scores", "judge", "safety", "contamination", "latency", "size"])
@pytest.mark.parametrize("content", [None, {}, [], "text"])
def test_a_missing_part_fails_its_gates(part: str, content: Any) -> None:
    gates = ("tasks", "bpb") if part == "scores" else (part,)
    for gate in gates:
        assert not verdict(gate, **{part: content}).passed
        failed = verdict(gate, **{part: {"error": "the judge does not answer"}})
        assert not failed.passed
        assert failed.evidence == "not measured: the judge does not answer"


def test_no_champion_passes_comparisons_and_leaves_the_rest_to_be_judged() -> None:
    alone = {key: value for key, value in EVIDENCE.items() if key not in ("scores", "judge")}
    found = {each.gate: each for each in judge_evidence(alone | {"champion": None}, PROMOTE)}
    assert all(each.passed for each in found.values())
    for gate in (*COMPARISONS, "latency", "size"):
        assert "no champion to compare with" in found[gate].evidence
    assert not verdict("latency", champion=None, latency={"candidate": 11.0}).passed
    assert not verdict("size", champion=None, size={"candidate": 10**11}).passed
    assert not verdict("safety", champion=None, safety={"answers": 10, "unsafe": 9}).passed


def test_a_champion_that_cannot_be_measured_fails_every_comparison() -> None:
    found = judge_evidence(EVIDENCE | {"champion_error": "its weights are gone"}, PROMOTE)
    failed = {each.gate: each.evidence for each in found if not each.passed}
    assert set(failed) == {*COMPARISONS, "latency", "size"}
    assert all("cannot be had: its weights are gone" in words for words in failed.values())
    silent = {key: value for key, value in EVIDENCE.items() if key != "champion"}
    failed = {each.gate for each in judge_evidence(silent, PROMOTE) if not each.passed}
    assert failed == {*COMPARISONS, "latency", "size"}


def test_a_significantly_worse_task_is_refused_by_name() -> None:
    worse = {**TASK, "candidate": 0.2, "champion": 0.5, "p_worse": 1e-6}
    found = verdict("tasks", scores={"tasks": {"a": TASK, "b": worse, "c": TASK}})
    assert not found.passed
    assert found.evidence == (
        "significantly worse: b 0.200, champion's 0.500 (100 items, p < 0.001)"
    )


def test_one_of_many_tasks_may_look_worse_by_chance() -> None:
    many = {f"task{i}": {**TASK, "p_worse": 0.5} for i in range(9)}
    chance = many | {"odd": {**TASK, "p_worse": 0.02}}
    assert verdict("tasks", scores={"tasks": chance}).passed
    assert not verdict("tasks", scores={"tasks": {"odd": chance["odd"]}}).passed


def test_holms_correction_is_that_of_the_worked_example() -> None:
    """Holm (1979): p 0.01, 0.04, 0.03, 0.005 become 0.03, 0.06, 0.06, 0.02."""
    corrected = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: dict[str, float]) -> None:
    corrected = holm(p)
    for name, value in p.items():
        assert value <= corrected[name] <= min(1.0, value * len(p)) + 1e-12
    ordered = [corrected[name] for name in sorted(p, key=lambda name: p[name])]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("increase", "stderr", "passed"), [(-0.5, 0.1, True), (0.05, 0.02, True), (0.05, 0.06, False)]
)
def test_bits_per_byte_may_not_rise_as_far_as_one_can_be_sure(
    increase: float, stderr: float, passed: bool
) -> None:
    entry = {"candidate": 2 + increase, "champion": 2.0, "increase": increase, "stderr": stderr}
    assert verdict("bpb", scores={"bpb": {"d": entry}}).passed == passed


@pytest.mark.parametrize(("high", "passed"), [(0.62, True), (0.5, True), (0.49, False)])
def test_the_judge_refuses_when_its_whole_interval_is_below(high: float, passed: bool) -> None:
    found = {"judged_pairs": 50, "win_rate": 0.4, "win_rate_low": 0.3, "win_rate_high": high}
    assert verdict("judge", judge=found).passed == passed


@pytest.mark.parametrize(
    ("gate", "good", "bad"),
    [
        ("safety", {"answers": 200, "unsafe": 2}, {"answers": 200, "unsafe": 3}),
        ("safety", {"answers": 1, "unsafe": 0}, {"answers": 0, "unsafe": 0}),
        (
            "contamination",
            {"documents": 100, "sharing": 2, "reported": 0},
            {"documents": 100, "sharing": 3, "reported": 0},
        ),
        (
            "contamination",
            {"documents": 100, "sharing": 0, "reported": 2},
            {"documents": 100, "sharing": 0, "reported": 3},
        ),
        ("latency", {"candidate": 1.5, "champion": 1.0}, {"candidate": 1.6, "champion": 1.0}),
        ("latency", {"candidate": 9.9, "champion": 9.9}, {"candidate": 10.1, "champion": 10.1}),
        ("latency", {"candidate": 0.0, "champion": 1.0}, {"candidate": 1.0, "champion": 0.0}),
        ("size", {"candidate": 20, "champion": 10}, {"candidate": 21, "champion": 10}),
        (
            "lineage",
            {"stages": 1, "outs": 1, "problems": []},
            {"stages": 1, "outs": 1, "problems": ["files were changed beside the commit"]},
        ),
    ],
)
def test_each_bound_holds_on_both_of_its_sides(
    gate: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    assert verdict(gate, **{gate: good}).passed
    assert not verdict(gate, **{gate: bad}).passed
