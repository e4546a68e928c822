"""The command `llm`. Heavy imports are inside the commands, so that `llm --help` is instant."""

import sys

import typer

from llm.cli.compare import compare
from llm.cli.corpus import corpus
from llm.cli.gc import gc
from llm.cli.lineage import lineage
from llm.cli.params import check, depth, preset
from llm.cli.plan import plan
from llm.cli.registry import promote, rollback, versions
from llm.cli.reproduce import reproduce
from llm.cli.text import chat, generate
from llm.errors import LLMError

app = typer.Typer(
    help="From raw text to a served language model. The chain itself runs by `dvc repro`.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (
    generate,
    chat,
    preset,
    depth,
    check,
    plan,
    promote,
    rollback,
    versions,
    lineage,
    reproduce,
    gc,
    compare,
):
    app.command()(command)
app.add_typer(corpus, name="corpus")


def run() -> None:
    """Entry point: a person's error is one line and exit code 1, never a traceback."""
    try:
        app()
    except LLMError as error:
        typer.secho(f"error: {error}", err=True, fg=typer.colors.RED)
        sys.exit(1)
