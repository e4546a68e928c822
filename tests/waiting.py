"""Waiting for what other processes do."""

import time
from collections.abc import Callable

PATIENCE_S = 300.0  # what never happens fails a test so late; a busy machine fails none
HANGS_S = 3600.0  # of one that works all the time


def wait_for(
    condition: Callable[[], bool], limit_s: float = PATIENCE_S, every_s: float = 0.5
) -> None:
    """Until it holds, looked at `every_s`, at first more often; an error after `limit_s`.

    A server that is asked ten times a second has less time for what is waited for.
    """
    begun = time.monotonic()
    while not condition():
        waited_s = time.monotonic() - begun
        assert waited_s < limit_s, f"did not happen within {limit_s:g} s"
        time.sleep(min(0.02 + waited_s / 10, every_s))


def wait_idle_seconds(condition: Callable[[], bool], limit_s: float) -> None:
    """Until it holds; an error after `limit_s` of an idle machine, which are more of a busy one.

    Half of each tenth is computed, and takes as long as the machine lets it.
    """
    left_s = limit_s
    while not condition():
        assert left_s > 0, f"did not happen within {limit_s:g} s of an idle machine"
        computed = time.thread_time() + 0.05
        while time.thread_time() < computed:
            pass
        time.sleep(0.05)
        left_s -= 0.1
