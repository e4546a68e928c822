"""`llm plan`: what a run will cost and whether it fits, before it starts."""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import parse_yaml
from llm.config.params import PARAMS, TRAINING, Params, checked
from llm.config.presets import apply_preset
from llm.files import read_text
from llm.plan.numbers import gib, short

if TYPE_CHECKING:
    from llm.plan.plan import Plan
    from llm.plan.speed import Speed


def plan(
    preset: Annotated[str, typer.Option(help="As `llm preset` would set params.")] = "",
    gpu: Annotated[str, typer.Option(help="For a GPU that is not here, e.g. h100.")] = "",
    timed: Annotated[bool, typer.Option(help="Time some real steps here.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="In bytes, seconds and FLOPs.")] = False,
) -> None:
    """Say what a run takes: tokens, steps, FLOPs, hours, memory, disk; exit code 1 when it cannot fit."""
    from llm.corpus.sources.size import text_bytes
    from llm.plan.machine import this_machine
    from llm.plan.plan import make_plan
    from llm.plan.speed import known_gpu, machine_with

    text = read_text(PARAMS)
    params = checked(parse_yaml(apply_preset(text, preset) if preset else text, str(PARAMS)))
    machine = machine_with(known_gpu(gpu), params) if gpu else this_machine()
    speeds = _speeds(params, gpu, timed=timed)
    here = None if gpu else Path.cwd()
    made = make_plan(params, machine, speeds, text_bytes(params.gather), here)
    if as_json:
        typer.echo(json.dumps(_plain(made), indent=2))
    else:
        _show(made, params, gpu)
    if made.refusals:
        raise typer.Exit(1)


def _speeds(params: Params, gpu: str, *, timed: bool) -> Mapping[str, "Speed"]:
    """Of the training stages that fit here, by trial; of a GPU by its data sheet."""
    from llm.plan.fit import refusals
    from llm.plan.machine import this_machine
    from llm.plan.speed import assumed_speed, known_gpu

    if gpu:
        return {stage: assumed_speed(known_gpu(gpu), params, stage) for stage in TRAINING}
    fitting = [s for s in TRAINING if not list(refusals(params, [s], this_machine()))]
    if not timed or not fitting:
        return {}
    with terminal(stderr=True).status("") as status:
        status.update("loading torch")
        from llm.trial import try_stage

        speeds = {}
        for stage in fitting:
            status.update(f"timing some steps of {stage}")
            speeds[stage] = try_stage(params, stage)
        return speeds


def _plain(made: "Plan") -> dict[str, Any]:
    return {
        "fits": not made.refusals,
        "time_s": made.time_s,
        **dataclasses.asdict(made),
    }


def _show(made: "Plan", params: Params, gpu: str) -> None:
    console = terminal()
    model, pretrain = params.model, made.stages["pretrain"].work
    tokens = f"{short(pretrain.tokens)} tokens, {pretrain.tokens / made.parameters:.3g} a parameter"
    console.print(
        f"[bold]{short(made.parameters)} parameters[/] ({short(made.block_parameters)} in "
        f"{model.n_layer} blocks of width {model.n_embd}), {tokens}\n"
    )
    console.print(_table(made), "")
    console.print(_disk(made), "")
    for note in _notes(made, params, gpu):
        console.print(f"[yellow]note[/]  {escape(note)}", soft_wrap=True)
    for refusal in made.refusals:
        console.print(f"[red]cannot run[/]  {escape(refusal)}", soft_wrap=True)
    if not made.refusals:
        console.print(f"[green]fits[/]  {_where(made, gpu)}", soft_wrap=True)


def _table(made: "Plan") -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=False)
    for name in ("stage", "steps", "tokens", "FLOPs", "time", "memory"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, stage in made.stages.items():
        work = stage.work
        sizes = (f"{work.steps:,}", short(work.tokens), f"{work.flops:.1e}")
        table.add_row(name, *sizes, _time(stage.time_s), gib(stage.memory_bytes))
    for name, time_s in made.rest_s.items():
        table.add_row(f"[dim]{name}[/]", "", "", "", _time(time_s), "")
    most = max(stage.memory_bytes for stage in made.stages.values())
    flops = sum(stage.work.flops for stage in made.stages.values())
    total = ("", "", f"{flops:.1e}", _time(made.time_s), gib(most))
    table.add_row("all", *total, style="bold")
    return table


def _disk(made: "Plan") -> Table:
    disk = made.disk
    sizes = {"corpus": disk.corpus, "tokens": disk.tokens, "models": disk.models}
    sizes |= {"checkpoints": disk.checkpoints, "needed": disk.needed, "free": disk.free}
    table = Table(box=None, padding=(0, 2), header_style="bold", pad_edge=False)
    table.add_column("disk")
    for name in sizes:
        table.add_column(name, justify="right")
    table.add_row("", *("?" if size is None else gib(size) for size in sizes.values()))
    return table


def _where(made: "Plan", gpu: str) -> str:
    """What it was held against."""
    gpus = made.machine.gpus or ()
    cards = f"{len(gpus)} x {gpu or 'GPU'} of {gib(min(gpus))}" if gpus else "no GPU"
    memory = "" if gpu else f"{gib(made.machine.memory)} of memory, "
    return f"{memory}{cards}"


def _notes(made: "Plan", params: Params, gpu: str) -> list[str]:
    """What a reader should know of the numbers."""
    notes = []
    if made.disk.corpus is None:
        notes.append("how much text the sources have is not known before they are gathered")
    if gpu:
        notes.append(f"times are by the data sheet of {gpu}, at 40 % of its peak")
    elif made.time_s is not None:
        load, cores = os.getloadavg()[0], os.cpu_count() or 1
        beside = (
            f", beside what else ran (load {load:.1f} on {cores} cores)" if load > cores else ""
        )
        notes.append(f"times are by some steps that were timed now{beside}")
    if params.instructions.extra or params.preferences.extra:
        notes.append("the extra files of instructions and preferences are not counted")
    for name, stage in made.stages.items():
        there = made.machine.memory if stage.device == "cpu" else min(made.machine.gpus or (2**62,))
        if stage.memory_bytes > there and not made.refusals:
            notes.append(
                f"{name} is expected to need {gib(stage.memory_bytes)} of {gib(there)}; "
                f"lower {name}.micro_batch_size or set launch.recompute"
            )
    return notes


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for unit, each in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * each:
            return f"{seconds / each:,.1f} {unit}"
    return f"{seconds:.0f} s"
