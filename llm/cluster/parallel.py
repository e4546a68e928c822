"""What maps over shards by several processes share, wherever these are."""

import logging
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from operator import length_hint
from pathlib import Path
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

LOG_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class Progress:
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


class Parallel(ABC):
    """A map through an executor, so many shards per worker under way or done and not yet taken."""

    shards_per_worker = 2

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        waiting: deque[tuple[Item, Future[Any]]] = deque()
        progress = Progress(function.__name__, length_hint(items))
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

    def _next(self, waiting: deque[tuple[Any, Future[Any]]], progress: Progress) -> Any:
        self._help(waiting)
        item, future = waiting.popleft()
        with named(item):
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


@contextmanager
def named(item: Any) -> Iterator[None]:
    """An error that leaves the body says at which shard it happened."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"at shard {name_of(item)}")
        raise


def name_of(item: Any) -> str:
    """The file that an item of a map is about, or the item itself."""
    for part in (item, getattr(item, "path", None), *(item if isinstance(item, tuple) else ())):
        if isinstance(part, Path):
            return str(part)
    return repr(item)[:80]
