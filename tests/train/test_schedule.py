import itertools

import pytest

from llm.config.train import OptimConfig
from llm.train.schedule import learning_rate
from tests.train.toy import OPTIM


def rates(schedule: str, **changes) -> list[float]:
    """100 steps: 10 of warm-up to 1, down to 0.1."""
    config = OptimConfig.model_validate(OPTIM | {"schedule": schedule} | changes)
    return [learning_rate(1.0, step, 100, config) for step in range(100)]


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant", "linear"])
def test_the_rate_warms_up_linearly_and_ends_at_its_share(schedule: str) -> None:
    found = rates(schedule)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == pytest.approx(1.0)
    assert found[99] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert all(a >= b for a, b in itertools.pairwise(found[10:]))


def test_a_cosine_is_half_down_half_way() -> None:
    """Step 54.5 of 10 to 99: (1 + 0.1) / 2."""
    found = rates("cosine")
    assert (found[54] + found[55]) / 2 == pytest.approx(0.55)


def test_wsd_is_stable_and_then_falls_by_a_line() -> None:
    """decay_frac 0.2: steps 80 to 99 fall; step 89.5 is half way."""
    found = rates("wsd", decay_frac=0.2)
    assert found[10:81] == pytest.approx([1.0] * 71)
    assert (found[89] + found[90]) / 2 == pytest.approx(0.55)


def test_a_line_falls_evenly() -> None:
    found = rates("linear", min_lr_frac=0.0)
    drops = [a - b for a, b in itertools.pairwise(found[10:])]
    assert drops == pytest.approx([1 / 89] * 89)


def test_a_run_of_few_steps_has_a_rate() -> None:
    for schedule in ("cosine", "wsd", "constant", "linear"):
        config = OptimConfig.model_validate(OPTIM | {"schedule": schedule, "decay_frac": 0.9})
        for n_steps in (1, 2, 3):
            for step in range(n_steps):
                assert 0 < learning_rate(1.0, step, n_steps, config) <= 1
