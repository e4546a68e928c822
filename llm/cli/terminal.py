"""The terminal, or what stands in for it when output is piped."""

import sys

from rich.console import Console

PLAIN_WIDTH = 200  # columns; a pipe has none of its own


def terminal() -> Console:
    """A console that cuts nothing off when its output goes into a file."""
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
