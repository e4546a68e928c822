"""A project's clean-up: survey what nobody needs, and free it.

    plan = survey(project, registry)
    with undisturbed(project, wait=False):
        free(project, registry, survey(project, registry).within(plan), print)

Needed is what a registered version names, the tip of a branch, a tag, a stash, an
experiment, a checkout with what lies uncommitted in it, or what is younger than the given
days. When MLflow does not answer, nothing is judged at all.

Nothing is freed beside a run: a run that finds an object in the cache relies on it, so
`undisturbed` waits for, or refuses while, a run holds the project's cache lock
(llm/worktree.py) or a `dvc` command works in any checkout that shares the cache, and none
can begin until it ends. What is killed in the middle has removed whole things only, in an
order that leaves no name without what it names; the same command frees the rest.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from llm.errors import ConfigError, TrackingError
from llm.files import read_json
from llm.git import KEPT, git
from llm.registry.cache import Cache
from llm.registry.clean.files import log_items, record_items, weight_items
from llm.registry.clean.objects import KIND as CACHE
from llm.registry.clean.objects import cache_items, in_order
from llm.registry.clean.plan import Freeable, Plan
from llm.registry.clean.runs import KIND as RUN
from llm.registry.clean.runs import free_run, run_items
from llm.registry.clean.worktrees import WORKTREE, work_items, worktree_items
from llm.registry.needs import (
    Holder,
    checkout_holder,
    history_holder,
    ref_holders,
    version_holders,
)
from llm.registry.record import tagged_outs
from llm.registry.reproduce import FOLDER
from llm.registry.versions import Registry, Version
from llm.worktree import Checkout, alone_with_cache, cache_folder, checkouts, remove_worktree

DAY_S = 86_400.0
COMMIT = "kept commit"


@dataclass(frozen=True)
class Project:
    """What is cleaned up, and how much of it."""

    root: Path
    older_than_days: float
    shared_cache: bool  # the cache lies outside of the project, and may be freed all the same
    others: tuple[Path, ...]  # other projects that use the same cache
    history: bool  # what any commit needs, not only the tips
    register: Path  # where stage register says what it registered last

    @property
    def cutoff(self) -> float:
        """Nothing that was written after this Unix time is freed."""
        return time.time() - self.older_than_days * DAY_S


def survey(project: Project, registry: Registry) -> Plan:
    """What can be freed and what is kept; TrackingError when the versions cannot be asked."""
    root, cutoff = project.root, project.cutoff
    versions = [version for name in registry.names() for version in registry.versions(name)]
    _check_registry(project, registry, versions)
    plan = Plan()
    runs = run_items(registry, root, versions, cutoff)
    plan.add(*runs)
    plan.add(*record_items(root, cutoff))
    plan.add(log_items(root, cutoff))
    plan.add(_commit_items(root, versions))
    worktrees = worktree_items(root, cutoff)
    plan.add(*worktrees)
    ended = {path for item in worktrees[0] for path in item.paths}
    kept = [root / FOLDER / item.name for item in worktrees[1]]
    plan.add(*work_items(root, kept, cutoff))
    of_versions = version_holders(registry, versions)
    md5s = {md5 for holder in of_versions for md5 in holder.md5s}
    plan.add(weight_items(root, md5s, {version.run_id for version in versions}, cutoff))
    _note_lost(plan, versions, Cache(cache_folder(root)))
    _add_cache(plan, project, [*of_versions, *_git_holders(project, ended)])
    return plan.measured()


def free(project: Project, registry: Registry, plan: Plan, gone: Callable[[str], None]) -> None:
    """Remove what the plan names, kind by kind, the cache last; says what is `gone`, one by one.

    A worktree goes before the objects that only it named, a run-cache entry before its
    objects, and a folder's list before its files.
    """
    cached = [path for item in plan.freeable if item.kind == CACHE for path in item.paths]
    for item in plan.freeable:
        if item.kind == RUN:
            for run_id in item.run_ids:
                free_run(registry, project.root, run_id)
        elif item.kind == COMMIT:
            git(project.root, "update-ref", "-d", f"{KEPT}{item.name}")
        elif item.kind == WORKTREE:
            for folder in item.paths:
                remove_worktree(project.root, folder)
        elif item.kind != CACHE:
            for path in item.paths:
                _remove(path)
        if item.kind != CACHE:
            gone(f"{item.kind} {item.name}")
    for path in in_order(cached, Cache(cache_folder(project.root))):
        path.unlink(missing_ok=True)
        gone(f"{CACHE} {path.parent.name}{path.name}")


@contextmanager
def undisturbed(project: Project, *, wait: bool) -> Iterator[None]:
    """No run and no `dvc` command uses the cache during the body; ConfigError when one does."""
    from dvc.lock import LockError
    from dvc.repo import Repo

    cache = cache_folder(project.root)
    with alone_with_cache(project.root, wait=wait), ExitStack() as stack:
        for folder in _sharing(project, cache):
            while running := _running_dvc(folder):
                if not wait:
                    raise ConfigError(
                        f"`{running}` uses the DVC cache, so nothing is freed; try again when it "
                        "has ended, or give --wait"
                    )
                time.sleep(1)
            repo: Any = stack.enter_context(Repo(str(folder)))  # DVC has no types for its lock
            try:
                stack.enter_context(repo.lock)
            except LockError:
                raise ConfigError(
                    f"a dvc command works in {folder}, so nothing is freed; try again"
                ) from None
            if running := _running_dvc(folder):  # it began in between
                raise ConfigError(f"`{running}` has just begun, so nothing is freed; try again")
        yield


def _check_registry(project: Project, registry: Registry, versions: list[Version]) -> None:
    """TrackingError when the registry lacks what this checkout registered: it is another one."""
    path = project.root / project.register / "version.json"
    if not path.is_file():
        return
    entry = read_json(path)
    known = {(version.name, version.number) for version in versions}
    if (entry["name"], str(entry["version"])) not in known:
        raise TrackingError(
            f"the registry {registry.uri} has no {entry['uri']}, which this checkout registered "
            f"({path}), so it cannot say what is needed; set MLFLOW_TRACKING_URI to the one that "
            f"has, or, if that version was deleted on purpose, remove {path.parent}"
        )


def _git_holders(project: Project, ended: set[Path]) -> Iterator[Holder]:
    for root in (project.root, *project.others):
        yield from ref_holders(root)
        for checkout in checkouts(root):
            if checkout.folder not in ended:
                yield checkout_holder(root, checkout)
        if project.history:
            yield history_holder(root)


def _add_cache(plan: Plan, project: Project, holders: list[Holder]) -> None:
    folder = cache_folder(project.root)
    if not folder.resolve().is_relative_to(project.root.resolve()) and not project.shared_cache:
        plan.notes.append(
            f"the DVC cache {folder} lies outside of this project, so others may use it: nothing "
            "of it is freed; --shared-cache frees it all the same, --project FOLDER keeps what "
            "another project needs"
        )
        return
    plan.add(*cache_items(Cache(folder), holders, project.cutoff))


def _note_lost(plan: Plan, versions: list[Version], cache: Cache) -> None:
    """Say which versions could not be checked out from the cache as it is."""
    for version in versions:
        outs = tagged_outs(version)
        if lost := [path for path, md5 in outs.items() if not cache.has(md5)]:
            plan.notes.append(
                f"{version.uri}: {len(lost)} of its {len(outs)} outs are not in the cache, e.g. "
                f"{lost[0]}; `dvc pull` or `llm reproduce` brings them back"
            )


def _sharing(project: Project, cache: Path) -> list[Path]:
    """The checkouts whose DVC uses the same cache."""
    found: list[Checkout] = []
    for root in (project.root, *project.others):
        found += checkouts(root)
    folders = dict.fromkeys(checkout.folder for checkout in found)
    return [
        folder
        for folder in folders
        if (folder / ".dvc" / "config").is_file() and cache_folder(folder) == cache
    ]


def _running_dvc(folder: Path) -> str:
    """The command of a dvc process that runs a stage in a checkout, as DVC itself notes it."""
    path = folder / ".dvc" / "tmp" / "rwlock"
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    infos = [*noted.get("write", {}).values()]
    infos += [info for each in noted.get("read", {}).values() for info in each]
    for info in infos:
        try:
            command = " ".join(psutil.Process(int(info["pid"])).cmdline())
        except psutil.Error:
            continue
        if "dvc" in command or Path(info["cmd"].split()[0]).stem in command:
            return f"{command} (process {info['pid']})"
    return ""


def _commit_items(root: Path, versions: list[Version]) -> Iterator[Freeable]:
    """The commits that git keeps for versions which are registered no more."""
    needed = {f"{KEPT}{version.name}/{version.number}" for version in versions}
    for ref in git(root, "for-each-ref", "--format=%(refname)", KEPT).splitlines():
        if ref not in needed:
            name = ref.removeprefix(KEPT)
            yield Freeable(COMMIT, name, "that version is registered no more; git may forget it")


def _remove(path: Path) -> None:
    """Remove a file or a folder; a folder first loses its name, so that half of it is never seen."""
    if path.is_dir() and not path.is_symlink():
        going = path.with_name(f".{path.name}.going")
        shutil.rmtree(going, ignore_errors=True)
        path.rename(going)
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)
