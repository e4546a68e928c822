"""A plan that cannot be is refused at once, with every reason."""

import pytest

from llm.errors import ConfigError
from llm.sweep.plan import Range
from tests.sweep.plans import plan


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metric": "val_loss"}, "metric='val_loss'"),
        ({"space": {}}, "needs at least one key"),
        ({"space": {"a": []}}, "space.a.*at least 1 item"),
        ({"space": {"a": [1, 1]}}, "'a' has a value twice"),
        ({"space": {"a": [1], "a.b": [2]}}, "'a' and 'a.b' overlap"),
        ({"space": {"a": {"low": 1, "high": 2}}}, "'a' is a range; method='grid' needs a list"),
        ({"space": {"a": {"low": 2, "high": 1}}}, "low=2 must be less than high=1"),
        ({"space": {"a": {"low": 0, "high": 1, "log": True}}}, "low=0 must be greater than 0"),
        ({"space": {"a": {"low": 0, "high": 1, "step": 3}}}, "step"),
        ({"samples": 3}, "leave samples empty"),
        ({"method": "random"}, "method='random' needs a number"),
        ({"seed_sections": ["sft"]}, "changes no seeds"),
        ({"space": {"a": list(range(30)), "b": list(range(30))}}, "900 points are more than 500"),
        ({"method": "bayes"}, "method='bayes'"),
        ({"goal": "lower"}, "goal='lower'"),
        ({"at_once": 0}, "at_once=0"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_with_the_reason(given: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        plan(**given)


def test_all_errors_of_a_plan_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(space={"a": [1, 1], "b": {"low": 1, "high": 2}}, samples=3, seed_sections=["sft"])
    assert len(str(caught.value).splitlines()) == 4


def test_both_ends_of_a_range_can_be_drawn_and_the_logarithm_is_even() -> None:
    whole = Range(low=1, high=3)
    assert [whole.draw(share, whole=True) for share in (0.0, 0.34, 0.67, 0.999)] == [1, 2, 3, 3]
    assert Range(low=1e-4, high=1e-2, log=True).draw(0.5, whole=False) == 0.001
    assert Range(low=1.23456, high=9.0).draw(0.0, whole=False) == 1.23456
