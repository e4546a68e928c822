"""What would fail later is refused before a stage does any work: files, memory, disk."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from llm.config.params import TRAINING, Params
from llm.config.stages import GROUPS, STAGES
from llm.errors import ConfigError
from llm.plan.disk import disk_of, too_full
from llm.plan.fit import least_bytes, memory_of, refusals
from llm.plan.inputs import missing_files
from llm.plan.machine import this_machine

EVERY_DEVICE_BYTES = 1_000_000_000


def check_run(
    params: Params, stages: Collection[str], text_bytes: int | None, folder: Path, work: Path
) -> None:
    """ConfigError lists why a run of `stages` in `folder`, in progress in `work`, cannot be.

    `text_bytes`: of what gather would read, where that is known.
    """
    text_bytes = text_bytes if "gather" in stages else _gathered_bytes(params, folder)
    missing, unfit = missing_files(params, stages, folder), _unfit(params, stages)
    _refuse([*missing, *unfit, *_too_full(params, stages, text_bytes, folder, work)])


def check_stage(params: Params, name: str, work: Path) -> None:
    """ConfigError lists why a stage that begins here, or one after it, cannot be.

    One that does not train leaves training to a machine that may be another.
    """
    ahead, folder = STAGES[STAGES.index(name) :], Path()
    if name in TRAINING:
        written, unfit = [name], _unfit(params, [name])
    else:
        ahead = [stage for stage in ahead if stage not in TRAINING]
        (group,) = (stages for stages in GROUPS.values() if name in stages)
        written = [stage for stage in ahead if stage in group]
        unfit = _unfit(params, TRAINING, here=False)
    text_bytes = _gathered_bytes(params, folder)
    full = _too_full(params, written, text_bytes, folder, work)
    _refuse([*missing_files(params, ahead, folder), *unfit, *full])


def _refuse(lines: list[str]) -> None:
    if lines:
        raise ConfigError("\n".join(lines))


def _unfit(params: Params, stages: Collection[str], *, here: bool = True) -> Iterator[str]:
    """Every training stage among `stages` that cannot fit on this machine.

    Not `here`: what wants a GPU where there is none is trained elsewhere.
    """
    if not _are_small(params, stages):
        yield from refusals(params, stages, this_machine(), here=here)


def _too_full(
    params: Params, stages: Collection[str], text_bytes: int | None, folder: Path, work: Path
) -> Iterator[str]:
    """What depends on how much text there is counts once that is known."""
    if text_bytes is None:
        stages = [stage for stage in stages if stage not in GROUPS["corpus"]]
    return too_full(disk_of(params, stages, text_bytes, folder, work))


def _gathered_bytes(params: Params, folder: Path) -> int | None:
    """Of text, where that is gathered."""
    try:
        return json.loads((folder / params.paths.metric("gather")).read_text())["bytes"]
    except (OSError, ValueError, KeyError):
        return None


def _are_small(params: Params, stages: Collection[str]) -> bool:
    """Whether every device has what they need: a machine need not be asked, which takes its time."""
    return all(
        getattr(params, stage).device != "cuda"
        and least_bytes(params, stage, memory_of(params, stage, "cpu"), "cpu") < EVERY_DEVICE_BYTES
        for stage in stages
        if stage in TRAINING
    )
