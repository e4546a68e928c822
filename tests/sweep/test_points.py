"""A sweep's points are those of its plan, always the same ones, and possible before any runs."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm.errors import ConfigError
from llm.sweep.plan import Plan, identity
from llm.sweep.points import Point, possible, seed_keys
from llm.sweep.points import points_of as points_in
from tests.conftest import ROOT
from tests.sweep.plans import plan

PARAMS = (ROOT / "params.yaml").read_text()


def points_of(plan: Plan, sections: Iterable[str] = ()) -> list[Point]:
    """The points where these sections have a seed."""
    return points_in(plan, {name: {"seed": 1} for name in sections}, sections)


def values_of(points: list[Point]) -> list[dict[str, Any]]:
    return [dict(point.values) for point in points]


def test_a_grid_is_every_combination_numbered_from_one() -> None:
    points = points_of(plan(space={"a": [1, 2], "b": ["x", None]}))
    assert [point.number for point in points] == [1, 2, 3, 4]
    assert values_of(points) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
        {"a": 2, "b": None},
    ]


def test_seeds_repeat_every_combination_with_each_seed() -> None:
    keys = ["pretrain", "sft"]
    points = points_of(plan(method="seeds", space={"a": [1, 2]}, samples=2, seed=5), keys)
    assert [point.overrides for point in points] == [
        {"a": 1, "pretrain.seed": 5, "sft.seed": 5},
        {"a": 1, "pretrain.seed": 6, "sft.seed": 6},
        {"a": 2, "pretrain.seed": 5, "sft.seed": 5},
        {"a": 2, "pretrain.seed": 6, "sft.seed": 6},
    ]
    assert len(points_of(plan(method="seeds", space={}, samples=3), keys)) == 3
    with pytest.raises(ConfigError, match=r"sets pretrain\.seed itself"):
        points_of(plan(method="seeds", space={"pretrain.seed": [1]}, samples=3), keys)


def test_the_seeds_are_those_of_the_sections_that_run_or_are_named() -> None:
    params = {"paths": {}, "dedup": {"seed": 1}, "pretrain": {"seed": 1}, "sft": {"seed": 1}}
    every = plan(method="seeds", space={}, samples=2)
    assert seed_keys(every, params, ["dedup", "pretrain"]) == ["dedup.seed", "pretrain.seed"]
    named = plan(method="seeds", space={}, samples=2, seed_sections=["sft"])
    assert seed_keys(named, params, ["pretrain"]) == ["sft.seed"]
    wrong = plan(method="seeds", space={}, samples=2, seed_sections=["paths", "x"])
    with pytest.raises(ConfigError, match=r"'paths', 'x' .* has no seed; .* dedup, pretrain, sft"):
        seed_keys(wrong, params, [])
    with pytest.raises(ConfigError, match="no stage up to pretrain has a seed"):
        seed_keys(every, params, ["gather"])


def test_a_param_that_is_no_whole_number_is_drawn_as_such_whatever_the_ends() -> None:
    space = {"sft.lr": {"low": 0, "high": 1}, "sft.epochs": {"low": 0, "high": 1}}
    params = {"sft": {"lr": 0.5, "epochs": 1}}
    points = points_in(plan(method="random", space=space, samples=5), params, [])
    assert {type(point.values["sft.lr"]) for point in points} == {float}
    assert {type(point.values["sft.epochs"]) for point in points} == {int}


numbers = st.integers(-50, 50) | st.floats(-50, 50, allow_nan=False, width=16)
ranges = (
    st.tuples(numbers, numbers, st.booleans())
    .filter(lambda ends: ends[0] < ends[1] and (ends[0] > 0 or not ends[2]))
    .map(lambda ends: {"low": ends[0], "high": ends[1], "log": ends[2]})
)
lists = st.lists(st.integers() | st.text(), min_size=1, max_size=5, unique_by=identity)
spaces = st.dictionaries(st.sampled_from("abcd"), lists | ranges, min_size=1)


@given(space=spaces, seed=st.integers(0, 10**6))
def test_drawn_values_are_of_the_space_and_of_its_type(space: dict[str, Any], seed: int) -> None:
    (point,) = points_of(plan(method="random", space=space, samples=1, seed=seed))
    for key, value in point.values.items():
        if isinstance(space[key], list):
            assert value in space[key]
        else:
            low, high = space[key]["low"], space[key]["high"]
            assert low <= value <= high
            assert isinstance(value, int) == (isinstance(low, int) and isinstance(high, int))


@given(space=spaces, seed=st.integers(0, 10**6), samples=st.integers(1, 8))
def test_points_depend_on_seed_and_space_alone_and_more_samples_keep_them(
    space: dict[str, Any], seed: int, samples: int
) -> None:
    space = {"x": {"low": 0.0, "high": 1.0}, **space}  # endless, so that all can be drawn
    fewer = plan(method="random", space=space, samples=samples, seed=seed)
    turned = dict(reversed(space.items()))
    more = plan(method="random", space=turned, samples=samples + 3, seed=seed)
    drawn = values_of(points_of(fewer))
    assert values_of(points_of(more))[:samples] == drawn
    assert len({identity(point) for point in drawn}) == samples


def test_random_points_are_these_on_every_machine() -> None:
    space = {
        "lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "n": {"low": 1, "high": 9},
        "k": [7, 8],
    }
    assert values_of(points_of(plan(method="random", space=space, samples=3, seed=3))) == [
        {"lr": 0.000124, "n": 9, "k": 7},
        {"lr": 0.000672, "n": 2, "k": 8},
        {"lr": 0.00342, "n": 5, "k": 7},
    ]


def test_a_space_that_has_not_enough_points_says_so() -> None:
    few = plan(method="random", space={"a": [1, 2]}, samples=3)
    with pytest.raises(ConfigError, match=r"samples=3: .* only 2 different points"):
        points_of(few)


HEADS = {"model.n_embd": [128, 100], "model.n_head": [4, 3], "model.n_kv_head": [1]}


def test_impossible_points_are_all_named_before_anything_runs() -> None:
    points = points_of(plan(space={**HEADS, "pretrain.optim.lr": [0.1, -1.0]}))
    with pytest.raises(ConfigError) as caught:
        possible(points, PARAMS, skip=False)
    message = str(caught.value)
    assert "7 of 8 points are impossible" in message
    assert "n_embd=128 must be a multiple of n_head=3" in message
    assert "pretrain.optim.lr=-1.0: Input should be greater than 0" in message
    assert "point 3, 4 (the first: model.n_embd=128, model.n_head=3, model.n_kv_head=1" in message
    assert "point 2, 4, 6, 8 (the first: " in message
    assert "skip_impossible" in message


def test_impossible_points_are_skipped_when_asked_but_not_all_of_them() -> None:
    points = points_of(plan(space=HEADS))
    kept, skipped = possible(points, PARAMS, skip=True)
    assert [point.number for point in kept] == [1]
    assert skipped[0].startswith("point 2 (model.n_embd=128, model.n_head=3")
    with pytest.raises(ConfigError, match="3 of 3 points are impossible"):
        possible(points[1:], PARAMS, skip=True)


def test_a_key_that_is_not_in_params_is_named_once_with_the_nearest() -> None:
    points = points_of(plan(space={"pretrain.optim.lrr": [1, 2], "model.n_layer": [1, 2]}))
    with pytest.raises(ConfigError) as caught:
        possible(points, PARAMS, skip=True)
    assert str(caught.value).startswith("space: no key 'pretrain.optim.lrr'; did you mean")
    assert "\n" not in str(caught.value)
