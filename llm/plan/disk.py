"""What a run writes to the disk, by what it is for, and how much of it lies there already."""

import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llm.config.params import TRAINING, Params
from llm.config.sizes import parameter_count
from llm.config.stages import GROUPS
from llm.plan.fit import memory_of
from llm.plan.memory import FP32_BYTES
from llm.plan.numbers import gib

CORPUS = GROUPS["corpus"][:5]  # each writes the text that it keeps
STORED_FRAC = 3.0  # of the sources' text: what these keep of it, compressed, as measured
SMALL_VOCABULARY = 2**16  # ids of two bytes
TOKEN_BYTES = 3  # of the sources' text for a token that is kept, about


@dataclass(frozen=True)
class Disk:
    """Bytes that a run writes, by what they are for. DVC's cache links to the same files."""

    corpus: int | None  # None where the sources' size is not known before they are gathered
    tokens: int
    models: int  # base, sft, reward, dpo; and the registered one, uploaded
    checkpoints: int  # of the stage with the largest; they go when it is done
    there: int  # of all these, what lies there; looked up only where there is no room for all
    free: int | None

    @property
    def needed(self) -> int:
        return (self.corpus or 0) + self.tokens + self.models + self.checkpoints


def disk_of(
    params: Params,
    stages: Collection[str],
    text_bytes: int | None,
    folder: Path | None,
    work: Path | None = None,
) -> Disk:
    """Of a run of `stages` in `folder` with its work in progress in `work`; None: of another machine.

    A network that lies there is not counted, since section `model` does not shape it.
    """
    weights = FP32_BYTES * parameter_count(params.model, params.tokenizer.vocab_size)
    trained = [
        stage
        for stage in TRAINING
        if stage in stages and (stage == "pretrain" or not getattr(params, stage).init_from)
    ]
    uploaded = "register" in stages and params.register_.weights == "upload"
    corpus = None if text_bytes is None else int(STORED_FRAC * text_bytes)
    sizes = {
        "corpus": corpus if any(stage in stages for stage in CORPUS) else 0,
        "tokens": _token_bytes(params, text_bytes) if "tokenize" in stages else 0,
        "models": weights * (len(trained) + uploaded),
        "checkpoints": max((_checkpoint_bytes(params, stage) for stage in trained), default=0),
    }
    if folder is None:
        return Disk(**sizes, there=0, free=None)
    free = shutil.disk_usage(folder).free
    if sum(size or 0 for size in sizes.values()) <= free:  # whatever lies there
        return Disk(**sizes, there=0, free=free)
    paths, work = params.paths, work or folder / params.paths.work / "work"
    lying = {
        "corpus": [*map(paths.stage, CORPUS), *_begun(work, CORPUS)],
        "tokens": [paths.stage("tokenize"), *_begun(work, ["tokenize"])],
        "models": [paths.model({"pretrain": "base"}.get(stage, stage)) for stage in trained],
        "checkpoints": _begun(work, trained),
    }
    there = sum(
        min(size or 0, _size(folder / path for path in lying[name])) for name, size in sizes.items()
    )
    return Disk(**sizes, there=there, free=free)


def too_full(disk: Disk) -> Iterator[str]:
    """Why the disk is too small, in a line."""
    left = disk.needed - disk.there
    if disk.free is not None and left > disk.free:
        besides = " besides what lies there" if disk.there else ""
        fewer = ", or keep fewer checkpoints (checkpoint.keep_last)" if disk.checkpoints else ""
        yield (
            f"the disk has {gib(disk.free)} free, and {gib(left)} are needed{besides}; "
            f"free some{fewer}"
        )


def _begun(work: Path, stages: Iterable[str]) -> list[Path]:
    """Folders with what stages have in progress."""
    return [path.absolute() for stage in stages for path in work.glob(f"{stage}-*")]


def _token_bytes(params: Params, text_bytes: int | None) -> int:
    """Of all text; where that is not known, of what pretrain reads."""
    tokens = params.pretrain.max_tokens if text_bytes is None else text_bytes // TOKEN_BYTES
    return tokens * (2 if params.tokenizer.vocab_size <= SMALL_VOCABULARY else 4)


def _checkpoint_bytes(params: Params, stage: str) -> int:
    """Those that are kept, and one that is being written."""
    kept, launch = getattr(params, stage).checkpoint, params.launch
    shared = {"ddp": 1, "hybrid": launch.group_ranks}  # what processes have alike is written once
    parts = shared.get(launch.parallel, launch.processes)
    whole = memory_of(params, stage, "cpu").snapshot * parts
    return whole * (kept.keep_last + kept.keep_best + 1)


def _size(folders: Iterable[Path]) -> int:
    size = 0
    for folder in folders:
        for here, _, names in os.walk(folder):
            for name in names:
                with suppress(FileNotFoundError):  # what another process has just removed
                    size += os.stat(os.path.join(here, name)).st_size
    return size
