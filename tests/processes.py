"""Looking at processes that may end while one looks."""

from collections.abc import Mapping

import psutil


def command_of(process: psutil.Process) -> list[str]:
    """The process's command line; empty once it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def environment_of(process: psutil.Process) -> Mapping[str, str]:
    """The environment that it was started with; empty once it is gone."""
    try:
        return process.environ()
    except psutil.Error:
        return {}
