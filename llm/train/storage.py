"""The folder of one checkpoint: tensors, what is no tensor, and the checksums of both.

tensors.pt    the tensors, each whole; or, where every rank has a part of them,
*.distcp      torch.distributed.checkpoint's files, which any number of ranks can read
run.json      what is no tensor
SHA256SUMS    as `sha256sum --check` reads it
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from llm.files import write_dir

TENSORS, VALUES, SUMS = "tensors.pt", "run.json", "SHA256SUMS"


def write_whole(path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Write the folder at once or not at all, from one process that has every tensor whole."""
    with write_dir(path) as partial:
        # to a file object: torch's own writer would hide why it could not write
        with (partial / TENSORS).open("wb") as file:
            torch.save(dict(tensors), file)
        _write_values(partial, values)
        _write_checksums(partial, _checksums(partial.iterdir()))


def write_parts(
    path: Path, tensors: Mapping[str, Tensor], values: Mapping[str, Any], group: dist.ProcessGroup
) -> None:
    """The same from all ranks of `group`, each with a part of the tensors."""
    # seconds to import: only where it is needed
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    rank = dist.get_rank(group)
    partial = path.with_name(f".{path.name}.partial")
    with write_dir(path) if rank == 0 else nullcontext():
        dist.barrier(group)  # the folder is there
        save(dict(tensors), storage_writer=FileSystemWriter(partial), process_group=group)
        every: list[dict[str, str] | None] = [None] * dist.get_world_size(group)
        dist.all_gather_object(every, _checksums(partial.glob(f"__{rank}_*")), group)
        if rank == 0:
            _write_values(partial, values)
            own = _checksums([partial / ".metadata", partial / VALUES])
            _write_checksums(partial, {k: v for sums in [own, *every] for k, v in sums.items()})


def read_values(path: Path) -> dict[str, Any]:
    """What is no tensor of a checkpoint."""
    return json.loads((path / VALUES).read_text(encoding="utf-8"))


def read_tensors(path: Path, into: Mapping[str, Tensor]) -> None:
    """Fill the tensors in place, whole or this rank's parts of them, however they were written."""
    if (path / TENSORS).is_file():
        found = torch.load(path / TENSORS, map_location="cpu", weights_only=True, mmap=True)
        for name, value in into.items():
            value.copy_(_part_of(found[name], value))
        return
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    load(dict(into), storage_reader=FileSystemReader(path), no_dist=not dist.is_initialized())


def damage(path: Path, share: slice = slice(None)) -> str:
    """What is wrong with the folder, of whose files a share is read; empty where nothing is."""
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
        expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
        there = {file.name for file in path.iterdir()} - {SUMS}
        if there != set(expected):
            return f"{', '.join(sorted(there ^ set(expected)))} missing or unknown"
        names = sorted(expected)[share]
        found = _checksums(path / name for name in names)
    except (OSError, ValueError) as error:
        return str(error)
    wrong = [name for name in names if found[name] != expected[name]]
    return f"wrong checksum of {', '.join(wrong)}" if wrong else ""


def _part_of(whole: Tensor, like: Tensor) -> Tensor:
    """The tensor, spread over the ranks as `like` is."""
    if not hasattr(like, "placements"):
        return whole
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    mesh, placements = like.device_mesh, like.placements
    return distribute_tensor(whole.to(like.device), mesh, placements, src_data_rank=None)


def _write_values(folder: Path, values: Mapping[str, Any]) -> None:
    """Write what is no tensor; a loss that is not a number stays one."""
    (folder / VALUES).write_text(json.dumps(values), encoding="utf-8")


def _write_checksums(folder: Path, sums: Mapping[str, str]) -> None:
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def _checksums(paths: Iterable[Path]) -> dict[str, str]:
    """sha256 by file name, of contents that have reached the disk."""
    found = {}
    for path in sorted(paths):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
