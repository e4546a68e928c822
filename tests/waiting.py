"""Waiting for what other processes do."""

import time
from collections.abc import Callable

PATIENCE_S = 300.0  # what never happens fails a test so late; a busy machine fails none


def wait_for(
    condition: Callable[[], bool], limit_s: float = PATIENCE_S, every_s: float = 0.1
) -> None:
    """Until it holds, looked at `every_s`; an error after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {limit_s:g} s"
        time.sleep(every_s)
