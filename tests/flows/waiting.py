"""Waiting for what other processes do."""

import time
from collections.abc import Callable


def wait_for(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Until it holds; an error after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {limit_s:g} s"
        time.sleep(0.1)
