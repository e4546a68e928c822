"""`llm gc`: show what nobody needs any more, and free it when asked to."""

import dataclasses
import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import load_section
from llm.config.params import PARAMS
from llm.config.paths import Paths

WORK = Path(".llm")
HOLDERS = ("version", "branch", "tag", "stash", "ref", "checkout", "history")

console = terminal()


def gc(
    free: Annotated[
        bool, typer.Option("--free", help="Free what is shown, after a question.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Free without the question.")] = False,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="Leave what is younger.")
    ] = 7.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for runs to end.")] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Keep what any commit needs, not only the tips.")
    ] = False,
    shared_cache: Annotated[
        bool, typer.Option("--shared-cache", help="Also free a cache outside of this project.")
    ] = False,
    project: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Another project whose needs count; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The plan, for machines.")] = False,
) -> None:
    """Show what no version, branch, tag, stash or checkout needs; --free frees it.

    Worktrees of runs that ended, work in progress of stages that have moved on, objects and
    run-cache entries of DVC's cache, MLflow's runs whose branch is gone, records and logs.
    DVC's and MLflow's remotes are left alone. Nothing is freed beside a run.
    """
    from llm.registry.clean.survey import Project, survey, undisturbed
    from llm.registry.clean.survey import free as free_plan
    from llm.registry.versions import open_registry

    registered = load_section(Paths, "paths", PARAMS).stage("register")
    others = tuple(path.resolve() for path in project or [])
    cleaned = Project(Path.cwd(), older_than, shared_cache, others, history, registered)
    registry = open_registry(WORK)
    plan = survey(cleaned, registry)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(plan), indent=2, default=str))
    else:
        _show(plan, older_than)
    if not free or not plan.freeable:
        return
    if not yes:
        typer.confirm("Free all of this?", abort=True)
    with undisturbed(cleaned, wait=wait):
        again = survey(cleaned, registry).within(plan).measured()
        steps = sum(max(1, len(item.paths)) for item in again.freeable)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task("freeing", total=steps)
            free_plan(cleaned, registry, again, lambda _: progress.advance(bar))
    console.print(f"freed {_bytes(sum(item.size for item in again.freeable))}")


def _show(plan: Any, older_than: float) -> None:
    if plan.freeable:
        console.print(_freeable(plan), "")
    console.print(_kept(plan), "")
    for note in plan.notes:
        console.print(f"[yellow]note[/] {escape(note)}", soft_wrap=True)
    total = sum(item.size for item in plan.freeable)
    said = f"{_bytes(total)} can be freed" if plan.freeable else "nothing to free"
    young = sum(item.size for item in plan.kept if _is_young(item))
    later = (
        f"; {_bytes(young)} more that nobody needs is younger than {older_than:g} days "
        "(--older-than 0)"
        if young
        else ""
    )
    console.print(f"[bold]{said}[/]{later}", soft_wrap=True)


def _freeable(plan: Any) -> Table:
    table = _table("to be freed", "what", "frees", "why")
    last = ""
    for item in plan.freeable:
        kind = item.kind if item.kind != last else ""
        table.add_row(kind, escape(item.name), _bytes(item.size), escape(item.why))
        last = item.kind
    return table


def _kept(plan: Any) -> Table:
    """Per holder what it needs of the cache; everything else by reason."""
    table = _table("kept for", "", "needs", "it alone")
    for item in sorted(plan.kept, key=lambda item: _rank(item.kind)):
        if item.kind in HOLDERS:
            alone = "" if item.alone is None else _bytes(item.alone)
            table.add_row(item.kind, escape(item.name), _bytes(item.size), alone)
    reasons: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for item in plan.kept:
        if item.kind not in HOLDERS:
            reasons[item.kind, item.why].append(item)
    for (kind, why), items in reasons.items():
        size = sum(item.size for item in items)
        name = items[0].name if len(items) == 1 else f"{len(items)} of them"
        table.add_row(kind, escape(f"{name}: {why}"), _bytes(size) if size else "", "")
    return table


def _rank(kind: str) -> int:
    return HOLDERS.index(kind) if kind in HOLDERS else len(HOLDERS)


def _is_young(item: Any) -> bool:
    from llm.registry.clean.plan import YOUNG

    return item.why == YOUNG


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=False)
    for column in columns:
        right = column in ("frees", "needs", "it alone")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _bytes(size: int) -> str:
    """In three digits: 950 B, 3.46 MB."""
    for unit, each in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= each:
            return f"{size / each:.3g} {unit}"
    return f"{size} B"
