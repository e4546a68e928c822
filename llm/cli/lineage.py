"""`llm lineage`: from a registered version back to its sources; which versions saw a document."""

import json
from pathlib import Path
from typing import Annotated

import typer

from llm.cli.terminal import terminal
from llm.config.base import load_section
from llm.config.params import PARAMS
from llm.config.registry import RegisterConfig
from llm.files import write_text

WORK = Path(".llm")

console = terminal()

Reference = Annotated[
    str,
    typer.Argument(
        metavar="[VERSION]",
        help="models:/llm@champion, models:/llm/3, 3 or an alias; by default the champion, "
        "else the candidate.",
    ),
]


def lineage(
    version: Reference = "",
    document: Annotated[
        str,
        typer.Option(
            metavar="ID",
            help="Which versions saw this document: an id, or part of a source or url, "
            "e.g. json.dumps.",
        ),
    ] = "",
    every: Annotated[
        bool, typer.Option("--all", help="Every document that contains it, not the exact one.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it as a page instead.")
    ] = None,
) -> None:
    """Walk back from a registered version to its runs, code, data and sources."""
    from llm.registry.versions import open_registry

    name = load_section(RegisterConfig, "register", PARAMS).name
    registry = open_registry(WORK)
    if document:
        from llm.cli.documents import show_document

        show_document(registry, name, version, document, every=every, as_json=as_json)
        return
    from llm.cli.sections import picture, sections_of, tree_of
    from llm.registry.lineage import trace

    found = trace(registry, registry.find_default(version, name), Path.cwd())
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    elif html:
        from llm.report.version_page import render_version

        sections = sections_of(found, registry.uri)
        page = render_version(found.version.uri, found.version.aliases, picture(found), sections)
        write_text(html, page)
        typer.echo(f"wrote {html}")
    else:
        console.print(tree_of(found, registry.uri))
