"""Maps on a real Dask cluster: the same bytes as here, whoever dies."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from llm.cluster import TIMEOUT, map_shards
from llm.config.params import load_params
from llm.config.paths import Paths
from llm.corpus.documents import shard_paths
from llm.errors import UnreachableError
from llm.files import fingerprint
from llm.process import Context
from llm.stages import dedup, filter, tokenize
from llm.tokenizer.load import Tokenizer
from tests.cluster_work import die, mark_and_sleep, unlucky, where
from tests.conftest import ROOT
from tests.dask_cluster import Cluster, dask_cluster
from tests.stages.corpus_inputs import function_row, put

PARAMS = load_params(ROOT / "params.yaml")
NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        yield cluster


def pids(paths: list[Path]) -> list[int]:
    return [int(line) for path in paths if path.exists() for line in path.read_text().split()]


def wait_for_pids(paths: list[Path], count: int) -> list[int]:
    deadline = time.monotonic() + 60
    while len(pids(paths)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return pids(paths)


def wait_for_busy(
    workers: list[subprocess.Popen[bytes]], paths: list[Path]
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A worker that is in the middle of a shard, and its children: each shard is a process's."""
    deadline = time.monotonic() + 60
    while True:
        for worker in workers:
            children = psutil.Process(worker.pid).children()
            if {child.pid for child in children} & set(pids(paths)):
                return worker, children
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_shards_are_worked_on_by_both_workers_in_the_folder_that_asks(shared: Cluster):
    found = list(map_shards(where, range(8), shared))
    assert {pid for pid, _ in found} == {process.pid for process in shared.worker_processes}
    assert {folder for _, folder in found} == {os.getcwd()}


def test_outs_are_those_of_local_processes(paths: Paths, shared: Cluster, tokenizer: Tokenizer):
    put(paths.stage("extract"), [function_row(n % 50) for n in range(60)], 20_000)
    assert len(shard_paths(paths.stage("extract"))) > 1
    tokenizer.save(paths.stage("tokenizer"), 64)

    def outs(scheduler: str) -> list[str]:
        def context(name: str) -> Context:
            return Context(name, paths, Path(paths.work) / name, scheduler=scheduler)

        filter.run(context("filter"), filter=PARAMS.filter)
        dedup.run(context("dedup"), dedup=PARAMS.dedup)
        put(paths.stage("decontaminate") / "kept", [function_row(n) for n in range(200)], 60_000)
        tokenize.run(context("tokenize"), tokenize=PARAMS.tokenize)
        return [fingerprint(paths.stage(name)) for name in ("filter", "dedup", "tokenize")]

    assert outs(shared.scheduler) == outs("")


def test_an_error_on_a_worker_is_raised_here_and_names_its_shard(shared: Cluster):
    with pytest.raises(ValueError, match="unlucky") as raised:
        list(map_shards(unlucky, [Path("00007.parquet")], shared))
    assert raised.value.__notes__[-1] == "at shard 00007.parquet"
    assert "in unlucky" in raised.value.__notes__[0]  # the worker's own traceback
    with pytest.raises(Exception, match="was killed by signal 9"):
        list(map_shards(die, [1], shared))


def test_a_worker_killed_in_the_middle_costs_nothing_but_time(tmp_path: Path):
    shards = [tmp_path / f"{number:05d}" for number in range(6)]
    with dask_cluster(tmp_path / "cluster") as cluster:
        results = map_shards(mark_and_sleep, shards, cluster)
        assert next(results) == shards[0].name
        killed, children = wait_for_busy(cluster.worker_processes, shards)
        killed.kill()
        assert list(results) == [path.name for path in shards[1:]]
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive  # what the worker had started ended with it
    assert len(pids(shards)) > len(shards)  # its shard was done again


def test_nothing_works_on_for_a_client_that_was_killed(shared: Cluster, tmp_path: Path):
    shards = [tmp_path / f"{number:05d}" for number in range(4)]
    code = f"""
from pathlib import Path
from types import SimpleNamespace
from llm.cluster import map_shards
from tests.cluster_work import mark_and_sleep
if __name__ == "__main__":
    cluster = SimpleNamespace(workers=1, scheduler={shared.scheduler!r})
    list(map_shards(mark_and_sleep, [Path(p) for p in {[str(p) for p in shards]}], cluster))
"""
    client = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    working = [psutil.Process(pid) for pid in wait_for_pids(shards, 2)]
    client.kill()
    client.wait()
    _, alive = psutil.wait_procs(working, timeout=1.5)  # before their two seconds are over
    assert not alive


def test_a_scheduler_that_does_not_answer_is_one_error_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(TIMEOUT, "1")
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("scheduler: ''", f"scheduler: {NOWHERE}"))
    (tmp_path / "dvc.yaml").write_text("stages: {filter: {deps: ['${paths.data}/extract']}}\n")
    put(tmp_path / "data" / "extract", [function_row(1)])
    command = [sys.executable, "-m", "llm.stages.filter"]
    stage = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert stage.returncode == os.EX_TEMPFAIL
    assert f"cluster.scheduler='{NOWHERE}' does not answer" in stage.stderr
    assert "Traceback" not in stage.stderr
    assert not (tmp_path / "data" / "filter").exists()


def test_a_stage_process_works_on_the_cluster(shared: Cluster, tmp_path: Path):
    text = (ROOT / "params.yaml").read_text()
    there = text.replace("scheduler: ''", f"scheduler: {shared.scheduler}")
    (tmp_path / "params.yaml").write_text(there)
    (tmp_path / "dvc.yaml").write_text("stages: {filter: {deps: ['${paths.data}/extract']}}\n")
    put(tmp_path / "data" / "extract", [function_row(n) for n in range(20)], 9_000)
    command = [sys.executable, "-m", "llm.stages.filter"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(shard_paths(tmp_path / "data" / "filter" / "kept")) > 1


def test_a_cluster_without_workers_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(TIMEOUT, "2")
    with (
        dask_cluster(tmp_path / "cluster", workers=0) as cluster,
        pytest.raises(UnreachableError, match="has had no worker for 2 s"),
    ):
        list(map_shards(where, range(2), cluster))
