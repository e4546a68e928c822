"""A rank's micro-batches, prepared by a thread while the step before them computes."""

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llm.data.batch import Batch, Batches
from llm.train.distributed import Ranks

AHEAD = 4  # micro-batches at most that lie ready


@contextmanager
def feed(data: Batches, ranks: Ranks, first_step: int) -> Iterator[Iterator[list[Batch]]]:
    """The rank's share of each step from `first_step` on, in the same order as without a thread.

    What goes wrong while a batch is prepared is raised when that batch is asked for. The
    thread ends with the body, however that ends.
    """
    thread = _Preparation(data, ranks, first_step)
    thread.start()
    try:
        yield thread.steps()
    finally:
        thread.end()


class _Preparation(threading.Thread):
    """Prepares micro-batches in order, at most AHEAD before they are taken."""

    def __init__(self, data: Batches, ranks: Ranks, first_step: int) -> None:
        super().__init__(name="micro-batches", daemon=True)
        self._data, self._device = data, ranks.device
        self._steps = range(first_step, data.n_steps)
        self._share = range(ranks.rank, data.micros_per_step, ranks.size)
        self._ready: queue.SimpleQueue[Batch | BaseException] = queue.SimpleQueue()
        self._room = threading.Semaphore(AHEAD)
        self._ending = False

    def run(self) -> None:
        try:
            for step in self._steps:
                for index in self._share:
                    self._room.acquire()
                    if self._ending:
                        return
                    self._ready.put(self._prepared(step, index))
        except BaseException as error:  # not lost with the thread: raised where it is missed
            self._ready.put(error)

    def steps(self) -> Iterator[list[Batch]]:
        """Each step's micro-batches, on the device."""
        for _ in self._steps:
            yield [self._take().to(self._device) for _ in self._share]

    def end(self) -> None:
        """Return when the thread has ended."""
        self._ending = True
        self._room.release()
        self.join()

    def _prepared(self, step: int, index: int) -> Batch:
        batch = self._data.micro_batch(step, index)
        return batch.pinned() if self._device.type == "cuda" else batch

    def _take(self) -> Batch:
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        self._room.release()
        return item
