"""`llm reproduce`: make a registered version again and compare the bytes."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import load_section
from llm.config.params import PARAMS
from llm.config.registry import RegisterConfig

WORK = Path(".llm")
SHOWN = 12  # characters of an md5
INTERRUPTED = 130

console = terminal()


def reproduce(
    version: Annotated[str, typer.Argument(help="models:/llm@champion, models:/llm/3, 3, …")],
    scratch: Annotated[
        bool, typer.Option("--scratch", help="Run every stage; take nothing from the cache.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the worktree when all is the same.")
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also when its commit lacks what made it.")
    ] = False,
) -> None:
    """Make a version again in a worktree of its commit and compare every byte.

    From the cache only what is not in it is run. Exits 1 when what must be the same
    differs. Interrupted, the same command continues.
    """
    from llm.registry.reproduce import Compared, package_reasons, reproduction
    from llm.registry.versions import open_registry
    from llm.worktree import remove_worktree

    name = load_section(RegisterConfig, "register", PARAMS).name
    registry = open_registry(WORK)
    root = Path.cwd()
    found = registry.find(version, name)
    with reproduction(registry, found, root, scratch=scratch, anyway=anyway) as made:
        console.print(f"{found.uri} in {made.folder}", soft_wrap=True)
        for reason in package_reasons(made.record):
            console.print(f"[yellow]{escape(reason)}[/]")
        try:
            made.run(lambda line: console.print(escape(line), soft_wrap=True))
        except KeyboardInterrupt:
            console.print("interrupted; the same command continues")
            sys.exit(INTERRUPTED)
        rows = made.compare()
        console.print(_table(rows))
        differ: list[Compared] = [row for row in rows if not row.same and not row.may_differ]
        if differ:
            _explain(made.first_to_differ(rows), package_reasons(made.record))
            console.print(f"kept for a look: {made.folder}; `llm gc` frees it", soft_wrap=True)
            sys.exit(1)
        proven = len([row for row in rows if row.same])
        how = "every stage run again" if scratch else "what the cache had not got run again"
        console.print(f"[green]{found.uri} is reproduced[/]: {proven} outs are the same ({how})")
        if keep:
            console.print(f"kept: {made.folder}", soft_wrap=True)
        else:
            remove_worktree(root, made.folder)


def _table(rows: list) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("stage", "out", "then", "now", ""):
        table.add_column(column)
    last = ""
    for row in rows:
        if row.same:
            said = "[green]same[/]"
        else:
            said = "differs, as it may" if row.may_differ else "[red]different[/]"
        stage = row.stage if row.stage != last else ""
        now = row.now[:SHOWN] if row.now else "not made"
        table.add_row(stage, escape(row.path), row.then[:SHOWN], now, said)
        last = row.stage
    return table


def _explain(stages: list[str], packages: list[str]) -> None:
    """Where it began, and what may be why."""
    for stage in stages:
        console.print(f"[red]it begins in stage {stage}[/]: what it reads is the same")
    if packages:
        console.print("what is installed here is not what made it:")
        for reason in packages:
            console.print(f"  {escape(reason)}")
        if "gather" in stages:
            console.print("  the corpus is their documentation; install those and try again")
    else:
        console.print(
            "the packages are the same; another processor, or another number of threads or ranks, "
            "adds numbers in another order"
        )
