"""Maps on this machine: by this process alone, or by it and others."""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from operator import length_hint
from typing import Any, TypeVar

from llm.cluster.parallel import Parallel, name_of, named
from llm.errors import LLMError

Item = TypeVar("Item")
Result = TypeVar("Result")


class Serial:
    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Generator[Result]:
        for item in items:
            with named(item):
                result = function(item)
            yield result


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


class Local(Parallel):
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
            return Serial().map(function, items)
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
                f"a worker was killed near {name_of(item)}, most likely for want of memory; "
                f"set LLM_WORKERS below {self._workers} and run it again"
            ) from None

    def _size(self) -> int:
        return self._workers


def _started(function: Callable[[Any], Any]) -> None:
    """Nothing: what a process imports to be given the function, it has imported."""
