"""`python -m llm.cli` is the command `llm`."""

from llm.cli import run

run()
