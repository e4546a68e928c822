"""Maps over shards: order, errors, and processes that end with who started them."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llm.cluster.pool import map_shards, open_pool
from llm.errors import LLMError
from tests.cluster.work import meet
from tests.conftest import ROOT
from tests.waiting import PATIENCE_S, wait_for


def square(n: int) -> int:
    if n == 13:
        raise ValueError("unlucky")
    return n * n


def where(n: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def read(path: Path) -> str:
    return path.read_text()


def die(folder: Path) -> None:
    """Here, when another process has come to the folder; that one dies."""
    if multiprocessing.parent_process():
        (folder / "came").touch()
        os.kill(os.getpid(), 9)
    wait_for((folder / "came").exists)


def threads_asked_for(n: int) -> str | None:
    time.sleep(0.2)
    return os.environ.get("OMP_NUM_THREADS")


def fails_to_arrive(n: int) -> int:
    time.sleep(0.1)
    return n


def test_results_come_in_order_whatever_the_number_of_workers() -> None:
    assert list(map_shards(square, range(10), 1)) == list(map_shards(square, range(10), 3))


def test_this_process_is_one_of_the_workers(tmp_path: Path) -> None:
    pids = set(map_shards(meet, [tmp_path] * 6, 2))
    assert len(pids) == 2
    assert os.getpid() in pids


def test_no_process_is_started_for_a_single_shard() -> None:
    before = psutil.Process().children()
    assert list(map_shards(where, [1], 2)) == [os.getpid()]
    assert psutil.Process().children() == before


def test_a_pools_processes_stay_for_its_next_map(tmp_path: Path) -> None:
    with open_pool(2) as pool:
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        second.mkdir()
        assert set(pool.map(meet, [first] * 6)) == set(pool.map(meet, [second] * 6))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_worker_is_raised_here(workers: int) -> None:
    with pytest.raises(ValueError, match="unlucky"):
        list(map_shards(square, [1, 13, 2], workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_names_its_shard(workers: int, tmp_path: Path) -> None:
    there, missing = tmp_path / "00000.parquet", tmp_path / "00001.parquet"
    there.write_text("")
    with pytest.raises(FileNotFoundError) as raised:
        list(map_shards(read, [there, missing], workers))
    assert f"at shard {missing}" in raised.value.__notes__


def test_a_killed_worker_is_one_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(LLMError, match=rf"killed near {tmp_path}.*LLM_WORKERS below 2"):
        list(map_shards(die, [tmp_path] * 6, 2))


def test_workers_that_cannot_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fails_to_arrive, "__module__", "tests.nowhere")
    with pytest.raises(Exception, match="fails_to_arrive"):
        list(map_shards(fails_to_arrive, range(3000), 2))


def test_a_closed_map_leaves_nothing_to_the_next() -> None:
    with open_pool(2) as pool:
        first = pool.map(where, range(100))
        next(first)
        first.close()
        assert list(pool.map(square, range(10))) == [n * n for n in range(10)]


def test_workers_compute_in_one_thread_and_the_environment_stays() -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ.pop("OMP_NUM_THREADS", None)
    try:
        threads = set(map_shards(threads_asked_for, range(6), 2))
        assert threads == {"1"}
        assert "OMP_NUM_THREADS" not in os.environ
    finally:
        if before is not None:
            os.environ["OMP_NUM_THREADS"] = before


def test_shards_under_way_are_bounded() -> None:
    given: list[int] = []

    def items() -> Iterator[int]:
        for n in range(100):
            given.append(n)
            yield n

    results = map_shards(square, items(), 2)
    assert next(results) == 0
    assert len(given) <= 8
    results.close()


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    shards = [str(tmp_path / name) for name in ("one", "other")]
    code = f"""
from pathlib import Path
from llm.cluster.pool import map_shards
from tests.cluster.work import mark_and_wait
if __name__ == "__main__":
    list(map_shards(mark_and_wait, [Path(path) for path in {shards}], 2))
"""
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)  # each is one process's
    workers = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive
