"""`llm preset`, `llm check`: write and validate params.yaml."""

import difflib
from typing import Annotated

import typer
from rich.console import Console
from rich.syntax import Syntax

from llm.config.params import PARAMS, load_params
from llm.config.presets import apply_preset, preset_names
from llm.files import read_text, write_text

console = Console()


def preset(
    name: Annotated[str, typer.Argument(help="Without a name, the presets there are.")] = "",
) -> None:
    """Write a preset's values into params.yaml and show what changed."""
    if not name:
        typer.echo("\n".join(preset_names()))
        return
    before = read_text(PARAMS)
    after = apply_preset(before, name)
    if before == after:
        typer.echo(f"params.yaml already has the values of preset {name}")
        return
    write_text(PARAMS, after)
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        "params.yaml",
        f"params.yaml ({name})",
        "",
        "",
        0,
        "",
    )
    console.print(Syntax("\n".join(lines), "diff", theme="ansi_dark", background_color="default"))


def check() -> None:
    """Validate params.yaml, all errors at once."""
    load_params(PARAMS)
    typer.echo("params.yaml is valid")
