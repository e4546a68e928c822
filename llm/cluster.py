"""Map a function over shards, here or on a Dask cluster: results in order, whichever process
computes them.

Functions are module-level and pure, and what they write has the same bytes every time: neither
the number of workers, nor where they are, nor one that dies and whose shards others do again,
changes a result. No more shards are under way than keep every worker busy. Of several local
workers this process is one: it works while the others start, and instead of waiting for them.

Environment
    LLM_CLUSTER_TIMEOUT_S   seconds to wait for a scheduler, and without any worker; 30
"""

import logging
import multiprocessing
import os
import pickle
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import length_hint
from pathlib import Path
from typing import Any, Protocol, TypeVar

from llm.errors import ConfigError, LLMError, UnreachableError
from llm.on_cluster import pack, run_in
from llm.resident import note_workers
from llm.tied import tie_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")

TIMEOUT = "LLM_CLUSTER_TIMEOUT_S"
TIMEOUT_S = 30.0
CHECK_S = 1.0
LOG_EVERY_S = 10.0

logger = logging.getLogger(__name__)


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
        with _dask(on.scheduler) as pool:
            yield pool
        return
    workers = on if isinstance(on, int) else on.workers
    if workers <= 1:
        yield _Serial()
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
    others = workers - 1
    with (
        _of_one_thread(),
        ProcessPoolExecutor(others, mp_context=context, initializer=tie_to_parent) as executor,
    ):
        try:
            yield _Local(executor, workers)
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


class _Serial:
    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        for item in items:
            with _named(item):
                result = function(item)
            yield result


class _Parallel(ABC):
    """A map through an executor, so many shards per worker under way or done and not yet taken."""

    shards_per_worker = 2

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        waiting: deque[tuple[Item, Future[Any]]] = deque()
        progress = _Progress(function.__name__, length_hint(items))
        try:
            for item in items:
                waiting.append((item, self._submit(function, item)))
                if len(waiting) >= self.shards_per_worker * self._size():
                    yield self._next(waiting, progress)
            while waiting:
                yield self._next(waiting, progress)
        finally:
            for _, future in waiting:
                future.cancel()

    def _next(self, waiting: deque[tuple[Any, Future[Any]]], progress: "_Progress") -> Any:
        self._help(waiting)
        item, future = waiting.popleft()
        with _named(item):
            result = self._result(item, future)
        progress.count()
        return result

    @abstractmethod
    def _help(self, waiting: deque[tuple[Any, Future[Any]]]) -> None:
        """What this process does instead of waiting for the first."""

    def _submit(self, function: Callable[[Item], Any], item: Item) -> Future[Any]:
        return self._executor.submit(function, item)

    @abstractmethod
    def _result(self, item: Any, future: Future[Any]) -> Any:
        """What the shard's function returned; raises what it raised."""

    @abstractmethod
    def _size(self) -> int:
        """Workers there are."""


@dataclass(frozen=True)
class _Shard:
    """A shard to do, and where what comes of it is put."""

    function: Callable[[Any], Any]
    item: Any
    done: Future[Any] = field(default_factory=Future)

    def do(self) -> None:
        """Do it in this process."""
        try:
            self.done.set_result(self.function(self.item))
        except Exception as error:
            self.done.set_exception(error)


class _Local(_Parallel):
    """This process and others: whichever is free does the first shard that none has begun.

    Another is given one when it has started, so that none waits for that.
    """

    shards_per_worker = 4  # as many as one can do while another process starts

    def __init__(self, executor: Executor, workers: int) -> None:
        super().__init__(executor)
        self._workers = workers
        self._others_asked = False  # to start
        self._free = 0  # of the others
        self._left: deque[_Shard] = deque()
        self._lock = threading.Lock()  # what others did is told by a thread

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        if length_hint(items) == 1:  # the others need not be started for it
            return _Serial().map(function, items)
        if not self._others_asked:
            self._others_asked = True
            for _ in range(self._workers - 1):
                self._executor.submit(_started, function).add_done_callback(self._start)
        return super().map(function, items)

    def _submit(self, function: Callable[[Item], Any], item: Item) -> Future[Any]:
        shard = _Shard(function, item)
        self._left.append(shard)
        self._hand_out()
        return shard.done

    def _help(self, waiting: deque[tuple[Any, Future[Any]]]) -> None:
        while not waiting[0][1].done() and (shard := self._take()):
            shard.do()

    def _take(self, *, for_other: bool = False) -> _Shard | None:
        """The first shard that none has begun; for another process only if one is free."""
        with self._lock:
            while self._left and (self._free or not for_other):
                shard = self._left.popleft()
                if shard.done.set_running_or_notify_cancel():
                    self._free -= for_other
                    return shard
        return None

    def _hand_out(self) -> None:
        """Give shards to the others that are free."""
        while shard := self._take(for_other=True):
            try:
                answer = self._executor.submit(shard.function, shard.item)
            except BrokenProcessPool as error:
                shard.done.set_exception(error)
            else:
                answer.add_done_callback(partial(self._end, shard))

    def _start(self, answer: Future[Any]) -> None:
        """Another process has started, or cannot."""
        error = answer.exception()
        if error is None:
            self._is_free()
        elif shard := self._take():
            shard.done.set_exception(error)

    def _end(self, shard: _Shard, answer: Future[Any]) -> None:
        """Another process has done a shard, or died."""
        error = answer.exception()
        if error is None:
            shard.done.set_result(answer.result())
        else:
            shard.done.set_exception(error)
        if not isinstance(error, BrokenProcessPool):
            self._is_free()

    def _is_free(self) -> None:
        with self._lock:
            self._free += 1
        self._hand_out()

    def _result(self, item: Any, future: Future[Any]) -> Any:
        try:
            return future.result()
        except BrokenProcessPool:
            raise LLMError(
                f"a worker was killed near {_name(item)}, most likely for want of memory; "
                f"set LLM_WORKERS below {self._workers} and run it again"
            ) from None

    def _size(self) -> int:
        return self._workers


def _started(function: Callable[[Any], Any]) -> None:
    """Nothing: what a process imports to be given the function, it has imported."""


class _Dask(_Parallel):
    """Shards on the workers of a Dask cluster, each in a process of its own: see `llm.on_cluster`."""

    def __init__(self, client: Any, address: str, timeout_s: float) -> None:
        super().__init__(client.get_executor(pure=False))
        self._client = client
        self._address = address
        self._timeout_s = timeout_s
        self._seen = time.monotonic()  # a worker, last

    def _help(self, waiting: deque[tuple[Any, Future[Any]]]) -> None:
        """Nothing: the cluster's machines are the workers."""

    def _submit(self, function: Callable[[Item], Any], item: Item) -> Future[Any]:
        return self._executor.submit(run_in, os.getcwd(), pack(function, item))

    def _result(self, item: Any, future: Future[Any]) -> Any:
        while True:
            try:
                result, error = pickle.loads(future.result(CHECK_S))
                break
            except CancelledError:
                raise UnreachableError(
                    f"cluster.scheduler={self._address!r} has gone away; start it again"
                ) from None
            except TimeoutError:
                self._look_for_workers()
        if error is not None:
            raise error
        return result

    def _size(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

    def _look_for_workers(self) -> None:
        """UnreachableError when there has been no worker for too long."""
        now = time.monotonic()
        if self._client.nthreads():
            self._seen = now
        elif now - self._seen > self._timeout_s:
            raise UnreachableError(
                f"cluster.scheduler={self._address!r} has had no worker for {self._timeout_s:.0f} s; "
                f"start one with `dask worker {self._address}` ({TIMEOUT} says how long to wait)"
            )


@contextmanager
def _dask(address: str) -> Iterator[_Dask]:
    """A client of the scheduler at `address`; UnreachableError when that or a worker is missing."""
    from distributed import Client

    timeout_s = _timeout_s()
    try:
        client = Client(address, timeout=timeout_s, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise UnreachableError(
            f"cluster.scheduler={address!r} does not answer ({error}); start it with "
            "`dask scheduler`, or set cluster.scheduler to '' to work on this machine"
        ) from None
    with client:
        pool = _Dask(client, address, timeout_s)
        while not client.nthreads():
            pool._look_for_workers()
            time.sleep(CHECK_S / 10)
        yield pool


def _timeout_s() -> float:
    given = os.environ.get(TIMEOUT, "")
    try:
        return float(given) if given else TIMEOUT_S
    except ValueError:
        raise ConfigError(f"{TIMEOUT}={given!r} must be a number of seconds") from None


class _Progress:
    """Says how far a long map has come, now and then."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done = name, total, 0
        self._said = time.monotonic()

    def count(self) -> None:
        """One more shard is done."""
        self._done += 1
        if time.monotonic() - self._said > LOG_EVERY_S:
            self._said = time.monotonic()
            of = f" of {self._total}" if self._total else ""
            logger.info("%s: %d%s shards", self._name, self._done, of)


@contextmanager
def _named(item: Any) -> Iterator[None]:
    """An error that leaves the body says at which shard it happened."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"at shard {_name(item)}")
        raise


def _name(item: Any) -> str:
    """The file that an item of a map is about, or the item itself."""
    for part in (item, getattr(item, "path", None), *(item if isinstance(item, tuple) else ())):
        if isinstance(part, Path):
            return str(part)
    return repr(item)[:80]
