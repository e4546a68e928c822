"""The terminal, or what stands in for it when output is piped."""

import sys

from rich.console import Console

PLAIN_WIDTH = 200  # columns; a pipe has none of its own


def terminal(*, stderr: bool = False) -> Console:
    """A console that cuts nothing off when its output goes into a file."""
    width = None if (sys.stderr if stderr else sys.stdout).isatty() else PLAIN_WIDTH
    return Console(width=width, highlight=False, stderr=stderr)
