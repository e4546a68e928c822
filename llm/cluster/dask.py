"""Maps on the workers of a Dask cluster.

Environment
    LLM_CLUSTER_TIMEOUT_S   seconds to wait for a scheduler, and without any worker; 30
"""

import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from llm.cluster.parallel import Parallel
from llm.cluster.worker import pack, run_in
from llm.errors import ConfigError, UnreachableError

Item = TypeVar("Item")

TIMEOUT = "LLM_CLUSTER_TIMEOUT_S"
TIMEOUT_S = 30.0
CHECK_S = 1.0


class DaskPool(Parallel):
    """Shards on the workers of a Dask cluster, each in a process of its own: see `llm.cluster.worker`."""

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
def connect(address: str) -> Iterator[DaskPool]:
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
        pool = DaskPool(client, address, timeout_s)
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
