"""The DVC cache: run-cache entries, and objects, that nobody names any more.

An entry goes before the objects that it names, a folder's list before the folder's files:
killed at any point, what is left is either whole or known to be missing, and DVC runs the
stage again.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from llm.registry.cache import Cache, md5s_in
from llm.registry.clean.plan import YOUNG, Freeable, Kept, size_of
from llm.registry.needs import Holder, expanded

KIND = "cache"
OUT = re.compile(rb"- path: (?P<path>[^\n]+)\n(?:[^-\n][^\n]*\n)*?\s+md5: (?P<md5>[0-9a-f.dir]+)")
UNNAMED = "other objects"
HALVES = "half-written files"


@dataclass(frozen=True)
class Entry:
    """An entry of the run cache: what a stage once made of what."""

    path: Path
    outs: dict[str, str]  # md5 to path
    written: float

    @property
    def name(self) -> str:
        """What the stage is there for: its folder, before metrics, curves and timings."""
        return min(self.outs.items(), key=lambda out: (not out[0].endswith(".dir"), out[1]))[1]


def cache_items(
    cache: Cache, holders: list[Holder], cutoff: float
) -> tuple[list[Freeable], list[Kept]]:
    """What no holder needs and was written before `cutoff`; per holder what it needs."""
    entries = [_read_entry(path) for path in cache.entries()]
    needs = {holder: expanded(cache, holder.md5s) for holder in holders}
    needed = {md5 for md5s in needs.values() for md5 in md5s}
    recent = expanded(
        cache, {md5 for each in entries if each.written > cutoff for md5 in each.outs}
    )
    unneeded = [each for each in entries if not each.outs.keys() <= needed]
    stale = [each for each in unneeded if each.written <= cutoff]
    objects = dict(cache.objects())
    freed = {
        md5: path
        for md5, path in objects.items()
        if md5 not in needed | recent and path.stat().st_mtime <= cutoff
    }
    halves = [path for path in cache.halves() if path.stat().st_mtime <= cutoff]
    young = [objects[md5] for md5 in objects if md5 not in needed and md5 not in freed]
    young += [each.path for each in unneeded if each.written > cutoff]
    shared = Counter(md5 for md5s in needs.values() for md5 in md5s)
    kept = [_kept(holder, md5s, shared, objects) for holder, md5s in needs.items()]
    if young:
        kept.append(Kept(KIND, _count(young, cache), YOUNG, size_of(young)))
    return _freeable(cache, stale, freed, halves), kept


def _freeable(
    cache: Cache, stale: list[Entry], freed: dict[str, Path], halves: list[Path]
) -> list[Freeable]:
    """One row per out that the objects were of, the entries with the first of their outs."""
    name_of: dict[str, str] = {}
    rows: dict[str, list[Path]] = {}
    for entry in stale:
        rows.setdefault(entry.name, []).append(entry.path)
        for md5 in expanded(cache, entry.outs):
            name_of.setdefault(md5, entry.name)
    for md5 in sorted(freed, key=lambda md5: (not md5.endswith(".dir"), md5)):
        rows.setdefault(name_of.get(md5, UNNAMED), []).append(freed[md5])
    found = [
        Freeable(KIND, name, f"{_count(paths, cache)} that nobody needs", tuple(paths))
        for name, paths in sorted(rows.items())
    ]
    if halves:
        found.append(Freeable(KIND, HALVES, "DVC was killed while it wrote them", tuple(halves)))
    return found


def in_order(paths: Iterable[Path], cache: Cache) -> list[Path]:
    """Entries of the run cache, then lists of folders, then all other objects."""
    runs = cache.folder / "runs"
    return sorted(
        paths, key=lambda path: (not path.is_relative_to(runs), path.suffix != ".dir", path)
    )


def _read_entry(path: Path) -> Entry:
    text = path.read_bytes()
    outs = text.partition(b"\nouts:\n")[2] or text
    named = {found["md5"].decode(): found["path"].decode() for found in OUT.finditer(outs)}
    everything = md5s_in(outs) or {""}  # one that names nothing is of no use
    return Entry(path, {md5: named.get(md5, UNNAMED) for md5 in everything}, path.stat().st_mtime)


def _kept(holder: Holder, md5s: set[str], shared: Counter[str], objects: dict[str, Path]) -> Kept:
    there = md5s & objects.keys()
    size = size_of(objects[md5] for md5 in there)
    alone = size_of(objects[md5] for md5 in there if shared[md5] == 1)
    return Kept(holder.kind, holder.name, "needs what its dvc.lock names", size, alone)


def _count(paths: list[Path], cache: Cache) -> str:
    entries = sum(path.is_relative_to(cache.folder / "runs") for path in paths)
    objects = len(paths) - entries
    said = [
        f"{number:,} {word}{'s' * (number > 1)}"
        for number, word in ((entries, "run-cache entry"), (objects, "object"))
        if number
    ]
    return " and ".join(said).replace("entrys", "entries")
