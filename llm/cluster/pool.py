"""Map a function over shards, here or on a Dask cluster: results in order, whichever process
computes them.

Functions are module-level and pure, and what they write has the same bytes every time: neither
the number of workers, nor where they are, nor one that dies and whose shards others do again,
changes a result. No more shards are under way than keep every worker busy. Of several local
workers this process is one: it works while the others start, and instead of waiting for them.
"""

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

from llm.cluster.dask import connect
from llm.cluster.local import Local, Serial
from llm.resident import note_workers
from llm.tied import tie_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers(Protocol):
    """Where maps run."""

    @property
    def workers(self) -> int:
        """Local processes."""
        ...

    @property
    def scheduler(self) -> str:
        """Address of the Dask scheduler whose workers are used instead; empty: none."""
        ...


class Pool(Protocol):
    """Processes that stay for several maps."""

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        """`function` of each item, in the items' order; an error carries the shard's name."""
        ...


def map_shards(
    function: Callable[[Item], Result], items: Iterable[Item], on: Workers | int
) -> Generator[Result]:
    """`function` of each item, in the items' order; `on` a number, on so many local processes."""
    with open_pool(on) as pool:
        yield from pool.map(function, items)


@contextmanager
def open_pool(on: Workers | int) -> Iterator[Pool]:
    """The processes for several maps over shards; with one local worker, this process itself."""
    if not isinstance(on, int) and on.scheduler:
        with connect(on.scheduler) as pool:
            yield pool
        return
    workers = on if isinstance(on, int) else on.workers
    if workers <= 1:
        yield Serial()
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
    others = workers - 1
    with (
        _of_one_thread(),
        ProcessPoolExecutor(others, mp_context=context, initializer=tie_to_parent) as executor,
    ):
        try:
            yield Local(executor, workers)
        finally:
            note_workers(child.pid for child in multiprocessing.active_children() if child.pid)


@contextmanager
def _of_one_thread() -> Iterator[None]:
    """What is started meanwhile computes in one thread, where the environment says nothing else.

    Workers share the cores already, and the threads of numpy's BLAS alone take a tenth of the
    time in which one starts.
    """
    name = "OMP_NUM_THREADS"  # Arrow's threads, too
    given = os.environ.get(name)
    os.environ.setdefault(name, "1")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(name, None)
