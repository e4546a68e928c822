"""Map a function over shards: results in order, whichever process computes them."""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from llm.tied import tie_to_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_shards(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Generator[Result]:
    """`function` of each item, in the items' order, on up to `workers` local processes.

    The function is module-level and pure: the number of workers never changes a result.
    """
    listed = list(items)
    if workers <= 1 or len(listed) <= 1:
        yield from map(function, listed)
        return
    context = multiprocessing.get_context("spawn")  # fork is unsafe beside threads
    size = min(workers, len(listed))
    with ProcessPoolExecutor(size, mp_context=context, initializer=tie_to_parent) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in listed:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * size:  # no more results in memory than keep all busy
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
