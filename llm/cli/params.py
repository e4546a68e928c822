"""`llm preset`, `llm depth`, `llm check`: write and validate params.yaml."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import parse_yaml, value_at
from llm.config.depth import derived, network
from llm.config.params import PARAMS, load_params
from llm.config.presets import apply_preset, apply_values, preset_names
from llm.config.sizes import parameter_count
from llm.errors import ConfigError
from llm.files import read_text, write_text
from llm.plan.numbers import short

DEPTHS = (2, 4, 6, 8, 12, 16, 20, 24, 32)

console = Console()


def preset(
    name: Annotated[str, typer.Argument(help="Without a name, the presets there are.")] = "",
) -> None:
    """Write a preset's values into params.yaml and show what changed."""
    if not name:
        typer.echo("\n".join(preset_names()))
        return
    before = read_text(PARAMS)
    _write(before, apply_preset(before, name), f"preset {name}")


def depth(
    depth: Annotated[
        str, typer.Argument(help="Layers; off: the values stay, and are yours to change.")
    ] = "",
) -> None:
    """Set size, heads, learning rates, batch and token budget by one number; without one, see what for.

    The rules and their sources are in llm/config/depth.py.
    """
    before = read_text(PARAMS)
    if not depth:
        terminal().print(_depths(parse_yaml(before, str(PARAMS))))
        return
    if depth != "off" and not (depth.isdecimal() and int(depth)):
        raise ConfigError(f"depth {depth!r} must be a number of layers, 1 or more, or off")
    layers = None if depth == "off" else int(depth)
    after = apply_values(before, {"model": {"depth": layers}}, "depth")
    _write(before, after, f"depth {depth}")


def check() -> None:
    """Validate params.yaml, all errors at once."""
    load_params(PARAMS)
    typer.echo("params.yaml is valid")


def _write(before: str, after: str, what: str) -> None:
    """Write params.yaml and show what changed."""
    if before == after:
        typer.echo(f"params.yaml already has the values of {what}")
        return
    write_text(PARAMS, after)
    lines = difflib.unified_diff(
        before.splitlines(),
        after.splitlines(),
        "params.yaml",
        f"params.yaml ({what})",
        "",
        "",
        0,
        "",
    )
    console.print(Syntax("\n".join(lines), "diff", theme="ansi_dark", background_color="default"))


def _depths(values: Mapping[str, Any]) -> Table:
    """What each depth sets, for the parts, block size, vocabulary, micro-batch and ranks of `values`."""
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=False)
    rates = [f"{stage}.optim.lr" for stage in ("pretrain", "sft", "reward", "dpo")]
    for name in ("depth", "width", "heads", "parameters", "tokens", "batch", *rates):
        table.add_column(name.replace("optim.", ""), justify="right")
    for layers in DEPTHS:
        found = derived(values, layers)
        parameters = parameter_count(
            network(values, layers), value_at(values, "tokenizer.vocab_size")
        )
        sizes = (str(layers), str(found["model.n_embd"]), str(found["model.n_head"]))
        tokens, batch = found["pretrain.max_tokens"], f"{found['pretrain.batch_tokens']:,}"
        lrs = (f"{found[key]:g}" for key in rates)
        table.add_row(*sizes, short(parameters), short(tokens), batch, *lrs)
    return table
