"""SIGTERM during training: finish the step, save, exit 143."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupt:
    """Becomes true when the process is asked to end."""

    def __init__(self) -> None:
        self.requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def deferred_sigterm() -> Iterator[Interrupt]:
    """Within it, SIGTERM only sets the flag that the loop reads between steps."""
    interrupt = Interrupt()

    def request(signum: int, frame: Any) -> None:
        interrupt.requested = True

    former = signal.signal(signal.SIGTERM, request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGTERM, former)
