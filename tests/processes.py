"""Looking at processes that may end while one looks."""

import psutil


def command_of(process: psutil.Process) -> list[str]:
    """The process's command line; empty once it is gone."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
