"""The thread that prepares micro-batches changes neither what they are nor how a run ends."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.data.batch import Batch
from llm.train.distributed import Ranks
from llm.train.feed import AHEAD, feed
from tests.conftest import ROOT
from tests.train.toy import Patterns, config, run
from tests.waiting import PATIENCE_S, wait_for

CPU = torch.device("cpu")


class Numbers:
    """Micro-batches that are their own number; counts how many were made."""

    def __init__(self, n_steps: int, micros_per_step: int, bad: int = -1) -> None:
        self.n_steps, self.micros_per_step, self.bad = n_steps, micros_per_step, bad
        self.made = 0

    def micro_batch(self, step: int, index: int) -> Batch:
        number = step * self.micros_per_step + index
        if number == self.bad:
            raise ValueError(f"micro-batch {number} is broken")
        self.made += 1
        return Batch({"ids": torch.tensor([number])}, units=1, tokens=1)


def taken(data: Numbers, rank: int, size: int, first: int) -> list[list[int]]:
    with feed(data, Ranks(rank, size, CPU), first) as steps:
        return [[int(batch.inputs["ids"]) for batch in batches] for batches in steps]


@settings(max_examples=40)
@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(0, 7))
def test_together_the_ranks_get_every_micro_batch_once_in_order(
    n_steps: int, per_rank: int, size: int, first: int
) -> None:
    data = Numbers(n_steps, per_rank * size)
    shares = [taken(data, rank, size, first) for rank in range(size)]
    steps = [sorted(itertools.chain(*parts)) for parts in zip(*shares, strict=True)]
    micros = per_rank * size
    assert steps == [[*range(s * micros, (s + 1) * micros)] for s in range(first, n_steps)]
    assert all(part == sorted(part) for share in shares for part in share)


def test_no_more_lies_ready_than_is_allowed_and_the_thread_ends_with_the_body() -> None:
    data = Numbers(100, 2)

    def body() -> None:
        with feed(data, Ranks(0, 1, CPU), 0) as steps:
            next(steps)
            wait_for(lambda: data.made >= AHEAD + 2, every_s=0.01)
            time.sleep(0.05)
            assert data.made == AHEAD + 2
            raise InterruptedError

    with pytest.raises(InterruptedError):
        body()
    assert "micro-batches" not in {thread.name for thread in threading.enumerate()}


def test_what_goes_wrong_in_the_thread_is_raised_at_the_batch_it_is_about() -> None:
    data = Numbers(10, 2, bad=5)
    with feed(data, Ranks(0, 1, CPU), 0) as steps:
        assert len([next(steps), next(steps)]) == 2
        with pytest.raises(ValueError, match="micro-batch 5 is broken"):
            next(steps)


def test_a_broken_batch_ends_the_run_and_the_work_is_kept(tmp_path: Path) -> None:
    class Broken(Patterns):
        def micro_batch(self, step: int, index: int) -> Batch:
            if step == 6:
                raise OSError("the disk went away")
            return super().micro_batch(step, index)

    with pytest.raises(OSError, match="the disk went away"):
        run(tmp_path / "a", Broken(12, 1, 4), config())
    whole, _ = run(tmp_path / "b", Patterns(12, 1, 4), config())
    steps: list[int] = []
    resumed, _ = run(tmp_path / "a", Patterns(12, 1, 4), config(), lambda s, _: steps.append(s))
    assert steps[0] == 5  # from the checkpoint of step 4
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


SLOW = """
import sys, time
from pathlib import Path
from tests.train.toy import Patterns, config, run

class Slow(Patterns):
    def micro_batch(self, step, index):
        time.sleep(0.5 if step > 2 else 0)  # the loop waits for the thread
        return super().micro_batch(step, index)

def say(step, metrics):
    print(step, flush=True)

run(Path(sys.argv[1]), Slow(500, 1, 4), config(eval_interval=1000), say)
"""


def test_sigterm_while_waiting_for_data_saves_and_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "4":
            process.send_signal(signal.SIGTERM)
            break
    assert process.wait(timeout=PATIENCE_S) == 143
    assert list(tmp_path.glob("step-*"))
