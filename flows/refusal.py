"""What a person can cause ends a flow run as Failed, with one message that says so and no traceback."""

import functools
import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import get_run_logger
from prefect.client.schemas.objects import State
from prefect.exceptions import FailedRun
from prefect.states import Failed

from flows.command import CommandError
from flows.disk import full_disk
from llm.errors import LLMError

P = ParamSpec("P")
R = TypeVar("R")


def failing_plainly(of: Callable[P, R]) -> Callable[P, R | State[Any]]:
    """A flow's function that returns Failed, and logs why, where `of` raises what we refuse with.

    So does a command that failed, whose own output is in the log. Any other exception is a
    mistake of ours: Prefect shows where it came from.
    """

    @functools.wraps(of)
    def run(*args: P.args, **kwargs: P.kwargs) -> R | State[Any]:
        try:
            return of(*args, **kwargs)
        except Exception as error:
            message = _explained(error)
            if message is None:
                raise
        get_run_logger().error("%s", message)
        return Failed(message=message)

    return run


def _explained(error: Exception) -> str | None:
    """What to tell of a failure; None where only its traceback can."""
    if isinstance(error, CommandError):  # its last lines say whether the disk is full
        return str(error)
    return full_disk(error) or (str(error) if isinstance(error, LLMError) else None)


class _Plainly(logging.Filter):
    """Prefect adds a traceback to each error, and to a run that returned Failed one of its own."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, LLMError | CommandError):
            record.exc_info = None
        return not isinstance(error, FailedRun)


for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_Plainly())
