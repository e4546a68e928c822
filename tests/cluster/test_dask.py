"""Maps on a real Dask cluster: the same bytes as here, whoever dies."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from evals import decontaminate
from llm.cluster import dask
from llm.cluster.dask import TIMEOUT
from llm.cluster.pool import map_shards
from llm.config.corpus import FolderSource, GatherConfig, Limits
from llm.config.params import load_params
from llm.config.paths import Paths
from llm.config.tasks import TaskNames
from llm.corpus.documents import shard_paths
from llm.errors import UnreachableError
from llm.files import fingerprint, write_text
from llm.process import Context
from llm.stages import dedup, extract, filter, gather, tokenize
from llm.tokenizer.load import Tokenizer
from tests.cluster.dask_cluster import Cluster, dask_cluster
from tests.cluster.work import die, mark_and_wait, unlucky, where
from tests.conftest import ROOT
from tests.stages.corpus_inputs import function_row, put
from tests.waiting import PATIENCE_S, wait_for

PARAMS = load_params(ROOT / "params.yaml")
NOWHERE = "tcp://127.0.0.1:1"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask") / "cluster") as cluster:
        yield cluster


def pids(paths: list[Path]) -> list[int]:
    return [int(line) for path in paths if path.exists() for line in path.read_text().split()]


def wait_for_pids(paths: list[Path], count: int) -> list[int]:
    wait_for(lambda: len(pids(paths)) >= count)
    return pids(paths)


def wait_for_busy(
    workers: list[subprocess.Popen[bytes]], paths: list[Path]
) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """A worker that is in the middle of a shard, and its children: each shard is a process's."""
    busy: list[tuple[subprocess.Popen[bytes], list[psutil.Process]]] = []

    def found() -> bool:
        for worker in workers:
            children = psutil.Process(worker.pid).children()
            if {child.pid for child in children} & set(pids(paths)):
                busy.append((worker, children))
        return bool(busy)

    wait_for(found, every_s=0.05)
    return busy[0]


def test_shards_are_worked_on_by_both_workers_in_the_folder_that_asks(
    shared: Cluster, tmp_path: Path
):
    found = list(map_shards(where, [tmp_path] * 8, shared))
    assert {pid for pid, _ in found} == {process.pid for process in shared.worker_processes}
    assert {folder for _, folder in found} == {os.getcwd()}


def test_outs_are_those_of_local_processes(paths: Paths, shared: Cluster, tokenizer: Tokenizer):
    """Of every stage that maps over shards, each on what the one before has made."""
    folder = Path(paths.work) / "notes"
    for part in range(2):
        numbers = (n % 110 for n in range(60 * part, 60 * part + 60))  # the last are copies
        lines = [json.dumps({"text": function_row(n)["text"]}) for n in numbers]
        write_text(folder / f"{part}.jsonl", "\n".join(lines))
    limits = Limits(max_documents=0, max_record_bytes=10**6, max_inflation=100)
    notes = FolderSource(
        kind="folder", name="notes", path=str(folder), text_field="text", limits=limits
    )
    gathering = GatherConfig(sources=[notes], max_documents=0, shard_bytes=25_000)
    holding_out = PARAMS.decontaminate.model_copy(update={"heldout_frac": 0.3})
    tokenizer.save(paths.stage("tokenizer"), 64)
    names = ("gather", "extract", "filter", "dedup", "decontaminate", "tokenize")

    def outs(scheduler: str) -> list[str]:
        def context(name: str) -> Context:
            return Context(name, paths, Path(paths.work) / name, scheduler=scheduler)

        gather.run(context("gather"), gather=gathering)
        extract.run(context("extract"), extract=PARAMS.extract)
        filter.run(context("filter"), filter=PARAMS.filter)
        dedup.run(context("dedup"), dedup=PARAMS.dedup)
        found = decontaminate.run(
            context("decontaminate"),
            decontaminate=holding_out,
            benchmark=TaskNames(tasks=["docs_bpb"]),
        )
        assert 0 < found["documents_kept"] < found["documents_in"] <= 110
        tokenize.run(context("tokenize"), tokenize=PARAMS.tokenize)
        return [fingerprint(paths.stage(name)) for name in names]

    assert outs(shared.scheduler) == outs("")
    assert all(len(shard_paths(paths.stage(name))) > 1 for name in ("gather", "extract"))


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
        results = map_shards(mark_and_wait, shards, cluster)
        assert next(results) == shards[0].name
        killed, children = wait_for_busy(cluster.worker_processes, shards)
        killed.kill()
        _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not alive  # what the worker had started ended with it
        (tmp_path / "go").touch()
        assert list(results) == [path.name for path in shards[1:]]
    assert len(pids(shards)) > len(shards)  # its shard was done again


def test_nothing_works_on_for_a_client_that_was_killed(shared: Cluster, tmp_path: Path):
    shards = [tmp_path / f"{number:05d}" for number in range(1, 5)]
    code = f"""
from pathlib import Path
from types import SimpleNamespace
from llm.cluster.pool import map_shards
from tests.cluster.work import mark_and_wait
if __name__ == "__main__":
    cluster = SimpleNamespace(workers=1, scheduler={shared.scheduler!r})
    list(map_shards(mark_and_wait, [Path(p) for p in {[str(p) for p in shards]}], cluster))
"""
    client = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    working = [psutil.Process(pid) for pid in wait_for_pids(shards, 2)]
    client.kill()
    client.wait()
    _, alive = psutil.wait_procs(working, timeout=PATIENCE_S)
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
    with dask_cluster(tmp_path / "cluster", workers=0) as cluster:
        clock = itertools.count(0, PATIENCE_S).__next__
        monkeypatch.setattr(dask, "time", SimpleNamespace(monotonic=clock, sleep=time.sleep))
        with pytest.raises(UnreachableError, match="has had no worker for 300 s"):
            list(map_shards(where, [tmp_path] * 2, cluster))
