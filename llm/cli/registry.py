"""`llm promote`, `llm rollback`, `llm versions`: which registered version is the champion."""

import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.params import PARAMS, Params, load_params
from llm.errors import ConfigError, EvaluationError

if TYPE_CHECKING:
    from llm.registry.promotion import Answer, Decision
    from llm.registry.versions import Registry, Version

COLORS = {"pass": "green", "fail": "red"}

Reference = Annotated[
    str, typer.Argument(help="A version: its number, an alias, or models:/NAME/NUMBER.")
]
Reason = Annotated[str, typer.Option(help="Why; it is kept with the version.")]

console = terminal()


def promote(
    reference: Reference = "candidate",
    reason: Reason = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Approve, where promote.approval asks a person.")
    ] = False,
) -> None:
    """Make a version the champion, if it passes every gate beside the one that is."""
    from llm.registry.moves import Said
    from llm.registry.promotion import promote as promote_version
    from llm.registry.promotion import whoami

    params, registry = _open()
    ask = _ask if params.promote.approval and not yes else None
    if ask is not None and not sys.stdin.isatty():
        raise ConfigError("promote.approval=true asks a person; there is no terminal: give --yes")
    said = Said(whoami(), reason)
    move = promote_version(registry, reference, params, said, run=_run, show=_show, ask=ask)
    if move is None:
        typer.echo(f"{reference} is the champion already; nothing was changed")
        return
    before = f"; {move.champion} is previous" if move.champion else ""
    typer.echo(f"promoted: version {move.version} is the champion{before}")


def rollback(reason: Reason = "") -> None:
    """Make the previous champion the champion again; no gate is asked."""
    from llm.registry.moves import Said, roll_back
    from llm.registry.promotion import whoami

    params, registry = _open()
    locks = Path(params.paths.work) / "locks"
    move = roll_back(registry, params.register_.name, Said(whoami(), reason), locks)
    typer.echo(f"rolled back: version {move.version} is the champion; {move.champion} is previous")


def versions(
    history: Annotated[
        bool, typer.Option("--history", help="Every promotion, rollback and refusal instead.")
    ] = False,
) -> None:
    """List the registered versions: aliases, scores, what the gates said, who promoted them."""
    params, registry = _open()
    name = params.register_.name
    table = _history(registry, name) if history else _versions(registry, params)
    if not table.rows:
        typer.echo(f"no history of {name}" if history else f"no version of {name} is registered")
        return
    console.print(table)


def _open() -> tuple[Params, "Registry"]:
    from llm.registry.versions import Registry, tracking_uri_of

    params = load_params(PARAMS)
    return params, Registry(tracking_uri_of(Path(params.paths.work)))


def _run(command: list[str]) -> None:
    """Measure in a process of its own, which says how far it is on standard error."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise EvaluationError(f"measuring the candidate failed (exit {done.returncode}); see above")


def _show(decision: "Decision") -> None:
    from llm.registry.promotion import rows

    table = Table(title=decision.title, title_justify="left")
    for column in ("gate", "verdict", "evidence", "threshold"):
        table.add_column(column, overflow="fold")
    for row in rows(decision):
        table.add_row(*row.values(), style=COLORS[row["verdict"]])
    console.print(table)


def _ask(decision: "Decision") -> "Answer":
    from llm.registry.promotion import Answer, whoami

    approved = typer.confirm(f"Make {decision.candidate.uri} the champion?")
    return Answer(approved, whoami(), typer.prompt("Comment", default="", show_default=False))


def _versions(registry: "Registry", params: Params) -> Table:
    select_by = params.register_.select_by
    table = Table(box=SIMPLE_HEAD)
    for column in ("version", "aliases", "model", select_by, "bpb", "gates", "registered"):
        table.add_column(column)
    table.add_column("champion since")
    for version in registry.versions(params.register_.name):
        tags = version.tags
        bpb = [tags[key] for key in sorted(tags) if re.fullmatch(r"metric/\w+[./]bpb", key)]
        crowned = (
            (_local(tags["champion/at"]), tags["champion/by"]) if "champion/at" in tags else ()
        )
        table.add_row(
            version.number,
            ", ".join(version.aliases),
            tags.get("model", ""),
            _rounded(tags.get(f"metric/{select_by}", "")),
            _rounded(*bpb[:1]),
            _gates(version),
            datetime.fromtimestamp(version.created_ms / 1000).strftime("%Y-%m-%d %H:%M"),
            ", ".join(crowned),
        )
    return table


def _history(registry: "Registry", name: str) -> Table:
    from llm.registry.moves import history

    table = Table(box=SIMPLE_HEAD)
    for column in ("when", "what", "version", "champion before", "by", "reason", "gates"):
        table.add_column(column, overflow="fold")
    for move in history(registry, name):
        before = move.champion or ""
        when = _local(move.time)
        table.add_row(when, move.action, move.version, before, move.by, move.reason, move.gates)
    return table


def _gates(version: "Version") -> str:
    found = {key: value for key, value in version.tags.items() if key.startswith("gate/")}
    failed = [key.removeprefix("gate/") for key, value in found.items() if value != "pass"]
    return (
        f"failed: {', '.join(sorted(failed))}" if failed else f"{len(found)} passed" * bool(found)
    )


def _rounded(text: str = "") -> str:
    return f"{float(text):.3f}" if text else ""


def _local(time: str) -> str:
    return datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M")
