import os
import subprocess
import sys
import time

import psutil
import pytest

from llm.cluster import map_shards
from tests.conftest import ROOT


def square(n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return n * n


def where(n: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def test_results_come_in_order_whatever_the_number_of_workers() -> None:
    assert list(map_shards(square, range(10), 1)) == list(map_shards(square, range(10), 3))


def test_the_work_is_done_in_other_processes() -> None:
    pids = set(map_shards(where, range(6), 2))
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers: int) -> None:
    with pytest.raises(ValueError, match="unlucky"):
        list(map_shards(square, [1, 13, 2], workers))


def test_workers_end_with_a_killed_parent() -> None:
    code = """
from llm.cluster import map_shards
from tests.test_cluster import where
if __name__ == "__main__":
    list(map_shards(where, range(999), 2))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    deadline = time.monotonic() + 30
    while (
        len(workers := psutil.Process(parent.pid).children()) < 3
    ):  # two, and the resource tracker
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert not alive
