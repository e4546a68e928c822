"""Training that is killed at a random moment, ten times a stage, ends with the same bytes."""

import signal
import subprocess
import sys

import pytest

from llm.config.paths import Paths
from llm.files import read_json
from tests.conftest import ROOT
from tests.stages.killed_training import (
    ATTEMPTS,
    MODELS,
    N_STEPS,
    SEEDS,
    Attempt,
    make_inputs,
)
from tests.stages.test_pretrain import make_shards


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[Attempt]:
    """Those of all stages."""
    folder = tmp_path_factory.mktemp("killed")
    paths = Paths(**{name: str(folder / name) for name in Paths.model_fields})
    make_shards(paths, "")
    make_inputs(paths)
    command = [sys.executable, "-m", "tests.stages.killed_training", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return [Attempt(**each) for each in read_json(folder / ATTEMPTS)]


@pytest.mark.parametrize("stage", MODELS)
def test_a_stage_that_is_killed_at_any_moment_ends_with_the_same_bytes(
    attempts: list[Attempt], stage: str
) -> None:
    tried = [attempt for attempt in attempts if attempt.stage == stage]
    assert len(tried) == len(SEEDS)
    assert {attempt.ended_by for attempt in tried} == {signal.SIGKILL}
    assert [attempt for attempt in tried if attempt.differing] == []
    assert all(attempt.first_step <= attempt.last_step + 1 for attempt in tried)
    assert len({attempt.drawn_step for attempt in tried}) > N_STEPS // 2
    assert any(attempt.first_step > N_STEPS // 2 for attempt in tried)  # it did not begin anew
