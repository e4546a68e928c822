"""`llm corpus`: what became of the documents of this checkout, and by which rule."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import load_section
from llm.config.params import PARAMS
from llm.config.paths import Paths
from llm.errors import ConfigError

console = terminal()
corpus = typer.Typer(
    help="What became of the documents: by stage, source and rule.", no_args_is_help=True
)

Json = Annotated[bool, typer.Option("--json", help="Everything, for machines.")]


def _data() -> Path:
    return Path(load_section(Paths, "paths", PARAMS).data)


@corpus.command()
def funnel(as_json: Json = False) -> None:
    """The waterfall: what each rule of each stage drops of each source, and what is left."""
    from llm.corpus.account import Account

    with Account(_data()) as account:
        steps = account.funnel()
    if as_json:
        typer.echo(json.dumps([vars(step) for step in steps], indent=2, ensure_ascii=False))
        return
    gathered = {step.source: step.documents for step in steps if step.stage == "gather"}
    table = Table("stage", "source", "rule", box=None)
    for heading in ("dropped", "left", "of gathered"):
        table.add_column(heading, justify="right")
    for step in steps:
        share = f"{step.documents / max(1, gathered.get(step.source, 0)):.1%}"
        numbers = ("", f"{step.documents:,}") if not step.rule else (f"{step.documents:,}", "")
        style = "bold" if not step.rule else None
        share = "" if step.stage == "gather" and step.rule else share
        table.add_row(step.stage, escape(step.source), step.rule, *numbers, share, style=style)
    console.print(table)


@corpus.command()
def rejected(
    rule: Annotated[str, typer.Option(help="As the funnel names it, e.g. near.")],
    sample: Annotated[int, typer.Option(min=1, help="So many of them.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    as_json: Json = False,
) -> None:
    """Documents that a rule dropped: the measured value and how the text begins."""
    from llm.corpus.account import Account

    with Account(_data()) as account:
        rows = account.rejected(rule, sample, seed)
        rules = [] if rows else account.rules()
    if not rows:
        raise ConfigError(f"--rule={rule} dropped nothing; rules that did: {', '.join(rules)}")
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for row in rows:
        value = f": {row['value']}" if row["value"] else ""
        console.print(
            f"[bold]{escape(row['url'] or '')}[/]  {escape(row['source'] or '')}  "
            f"[dim]{row['id'] or ''}[/]\n{row['stage']}: {rule}{escape(value)}"
        )
        if row["text"]:
            console.print(escape(row["text"]), style="dim")
        console.print()


@corpus.command()
def trace(
    document_id: Annotated[
        str, typer.Argument(metavar="DOCUMENT_ID", help="An id, its beginning, or a url.")
    ],
    as_json: Json = False,
) -> None:
    """What each stage did to a document. `llm lineage --document` says it of every version."""
    from llm.corpus.account import Account

    with Account(_data()) as account:
        steps = account.trace(document_id)
    if as_json:
        typer.echo(json.dumps(steps, indent=2, ensure_ascii=False))
        return
    first = steps[0]
    console.print(
        f"[bold]{escape(first['url'])}[/]  {escape(first['source'])}  [dim]{first['id'] or ''}[/]"
    )
    text = None
    for step in steps:
        if step["kept"]:
            verdict = _kept(step["stage"], step["kept"], text)
            text = step["kept"].get("text")
        elif "rule" in step:
            verdict = f"dropped by {step['rule']}" + (f": {step['value']}" if step["value"] else "")
        else:
            verdict = "gone, and no record says why: `dvc status` tells whether the stage is stale"
        console.print(f"  {step['stage']:14} {escape(verdict)}")


def _kept(stage: str, document: dict[str, Any], before: str | None) -> str:
    """What a stage made of a document that it kept, whose text the stage before left as `before`."""
    if stage == "gather":
        return (
            f"{document['mime']}, {len(document['content']):,} characters, {document['meta'][:200]}"
        )
    if stage == "extract":
        return (
            f"{len(document['text']):,} characters, language {document['language']} "
            f"(score {document.get('language_score', 'not recorded')})"
        )
    if stage == "tokenize":
        times = f", {document['copies']} times" if document["copies"] > 1 else ""
        return f"in {document['split']}{times}, {document['tokens']:,} tokens"
    if before is not None and document["text"] != before:
        return f"kept, its text changed: {len(before):,} to {len(document['text']):,} characters"
    return "kept"
