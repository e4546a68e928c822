"""What can be freed and what is kept, with reasons; sizes are what the disk really gets back."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

BLOCK = 512  # bytes, of st_blocks
YOUNG = "nobody needs it, but it is younger than --older-than"


@dataclass(frozen=True)
class Freeable:
    """Something that nobody needs, removed as a whole by its kind's own rule."""

    kind: str  # "run cache and objects", "worktree", …
    name: str
    why: str
    paths: tuple[Path, ...] = ()  # in the order in which they are to go
    run_ids: tuple[str, ...] = ()  # of MLflow
    size: int = 0  # bytes

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it when the plan is made anew."""
        return self.kind, self.name


@dataclass(frozen=True)
class Kept:
    """Something that is not freed, and for whom."""

    kind: str
    name: str
    why: str
    size: int = 0  # bytes
    alone: int | None = None  # bytes that nobody else needs


@dataclass
class Plan:
    """All of a project."""

    freeable: list[Freeable] = field(default_factory=list)
    kept: list[Kept] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, freeable: Iterable[Freeable], kept: Iterable[Kept] = ()) -> None:
        """Take in what one kind of thing has."""
        self.freeable += freeable
        self.kept += kept

    def measured(self) -> "Plan":
        """The same with sizes: a file of several names counts with the last that goes."""
        disk = Disk()
        sized = [replace(each, size=disk.freed(each.paths)) for each in self.freeable]
        return Plan(sized, self.kept, self.notes)

    def within(self, shown: "Plan") -> "Plan":
        """What is still freeable of what was shown: nothing goes that nobody has seen."""
        seen = {each.key: each for each in shown.freeable}
        both = []
        for each in self.freeable:
            if each.key in seen:
                paths = set(seen[each.key].paths)
                runs = set(seen[each.key].run_ids)
                both.append(
                    replace(
                        each,
                        paths=tuple(path for path in each.paths if path in paths),
                        run_ids=tuple(run for run in each.run_ids if run in runs),
                    )
                )
        return Plan(both, self.kept, self.notes)


class Disk:
    """Counts what removing files gives back: the blocks of an inode go with its last name."""

    def __init__(self) -> None:
        self._links: dict[tuple[int, int], int] = {}

    def freed(self, paths: Iterable[Path]) -> int:
        """Bytes that removing these gives back, after all that was asked about before."""
        total = 0
        for path in paths:
            for stat in _stats(path):
                key = (stat.st_dev, stat.st_ino)
                self._links[key] = self._links.get(key, 0) + 1
                if self._links[key] == stat.st_nlink:
                    total += stat.st_blocks * BLOCK
        return total


def young(kind: str, path: Path, name: str = "") -> Kept:
    """What nobody needs, but was written lately."""
    return Kept(kind, name or path.name, YOUNG, size_of([path]))


def size_of(paths: Iterable[Path]) -> int:
    """Bytes on disk of files and folders, each file once."""
    seen = {(stat.st_dev, stat.st_ino): stat for path in paths for stat in _stats(path)}
    return sum(stat.st_blocks * BLOCK for stat in seen.values())


def newest(path: Path) -> float:
    """When a file, or the newest in a folder, was last written; 0 when there is none."""
    return max((stat.st_mtime for stat in _stats(path)), default=0.0)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of every file below a folder; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        for folder, _, names in os.walk(path):
            for name in names:
                yield from _stat(Path(folder, name))
    else:
        yield from _stat(path)


def _stat(path: Path) -> Iterator[os.stat_result]:
    try:
        yield path.lstat()
    except FileNotFoundError:  # it went in between
        return
