"""Worktrees of runs that have ended, and work in progress of stages that have moved on."""

from collections.abc import Iterable, Iterator
from contextlib import chdir
from pathlib import Path

import psutil

from llm.config.base import read_yaml
from llm.config.params import load_params
from llm.errors import LLMError
from llm.git import git, git_bytes
from llm.process import work_folder
from llm.registry.clean.plan import Freeable, Kept, newest, young
from llm.registry.reproduce import FOLDER, PREPARED
from llm.tracking.lineage import out_md5s, read_lock
from llm.tracking.process_id import ProcessId
from llm.worktree import SHARED, Checkout, checkouts

WORKTREE, WORK = "worktree", "work in progress"
OWN = Path(".llm") / "work"
RUNS = Path(".llm") / "runs"  # a file per flow run, which names its process
WRITTEN = ("metrics", "timings", "plots", "data", "models", "reports")  # in params.yaml's `paths`


def worktree_items(root: Path, cutoff: float) -> tuple[list[Freeable], list[Kept]]:
    """The worktrees below `.llm/worktrees`: those of running processes, of persons' changes, or young, stay."""
    known = {checkout.folder: checkout for checkout in checkouts(root)}
    freeable, kept = [], []
    place = (root / FOLDER).resolve()
    for folder in sorted(place.iterdir()) if place.is_dir() else []:
        why = _needed(root, folder, known.get(folder))
        if why:
            kept.append(Kept(WORKTREE, folder.name, why))
        elif newest(folder) > cutoff:
            kept.append(young(WORKTREE, folder))
        else:
            ended = "its run has ended" if folder in known else "git has forgotten it"
            freeable.append(Freeable(WORKTREE, folder.name, ended, (folder,)))
    return freeable, kept


def work_items(
    root: Path, kept: Iterable[Path], cutoff: float
) -> tuple[list[Freeable], list[Kept]]:
    """Checkpoints and the like: what a stage would continue in the checkout stays, or in a kept worktree.

    Plain `dvc repro` has them in `.llm/work`, runs have them in `.llm/resume`, which all share.
    """
    places = {OWN: [root], SHARED: [root, *kept]}
    freeable: list[Freeable] = []
    stays: list[Kept] = []
    for place, folders in places.items():
        for folder in sorted(path for path in (root / place).glob("*-*") if path.is_dir()):
            stage = folder.name.rpartition("-")[0]
            if why := _continued(folder.name, stage, folders, shared=place == SHARED):
                stays.append(Kept(WORK, folder.name, why))
            elif newest(folder) > cutoff:
                stays.append(young(WORK, folder))
            else:
                why = f"stage {stage} has other params, inputs or code by now"
                freeable.append(Freeable(WORK, folder.name, why, (folder,)))
    return freeable, stays


def _continued(name: str, stage: str, folders: list[Path], *, shared: bool) -> str:
    """Where a stage would continue from this work; or why that cannot be judged.

    A checkout that lacks what the stage reads could not continue it as it is. The work of
    the checkout itself then stays; what runs share is judged by those that are kept.
    """
    for folder in folders:
        try:
            if _current_work(folder, stage) == name:
                return f"the next run of {stage} continues it"
        except (LLMError, OSError) as error:
            if not shared:
                return f"cannot be judged: {error}".splitlines()[0]
    return ""


def living(folder: Path, root: Path) -> str:
    """The process that works in a folder, in words; empty when there is none."""
    for path in sorted((root / RUNS).glob("*")):
        if folder.name.endswith(f"-{path.name[:8]}") and _is_alive(path):
            return f"flow run {path.name}"
    for process in psutil.process_iter(["pid", "name"]):
        try:
            if Path(process.cwd()).is_relative_to(folder):
                return f"process {process.pid} ({process.info['name']})"
        except (psutil.Error, OSError):  # it ended, or is another user's
            continue
    return ""


def _needed(root: Path, folder: Path, checkout: Checkout | None) -> str:
    """Why a worktree stays; empty when nothing speaks for it."""
    if running := living(folder, root):
        return f"{running} works in it"
    if checkout is None:
        return ""
    if changed := _changes_of_a_person(folder):
        return f"has a change that no commit has: {changed}"
    if checkout.branch is None and not git(
        root, "for-each-ref", "--count=1", "--contains", checkout.commit
    ):
        return f"its commit {checkout.commit[:12]} is on no branch; `git branch NAME` keeps it"
    return ""


def _changes_of_a_person(folder: Path) -> str:
    """A changed or new file that no stage wrote; the params of a reproduction are the version's."""
    written = {"dvc.lock", *_paths_of_stages(folder)}
    if (folder / PREPARED).exists():
        written.add("params.yaml")
    status = git_bytes(folder, "status", "--porcelain", "-z", "--untracked-files=all")
    entries = status.decode(errors="surrogateescape").split("\0")
    changed = [entry[3:] for entry in entries if entry]
    own = [path for path in changed if not _is_below(path, written)]
    return own[0] if own else ""


def _paths_of_stages(folder: Path) -> Iterator[str]:
    """Everything that stages write in a checkout."""
    for locked in read_lock(folder / "dvc.lock").values():
        yield from out_md5s(locked)
    try:
        paths = read_yaml(folder / "params.yaml").get("paths", {})
    except LLMError:
        return
    yield from (paths[name] for name in WRITTEN if name in paths)


def _current_work(folder: Path, stage: str) -> str | None:
    """The name of the work that the stage would continue in a checkout; None without such a stage."""
    graph = read_yaml(folder / "dvc.yaml")["stages"]
    if stage not in graph:
        return None
    params = load_params(folder / "params.yaml")
    fields = {field.alias or name: name for name, field in type(params).model_fields.items()}
    sections = [name for name in graph[stage].get("params", []) if name != "paths"]
    configs = {name: getattr(params, fields[name]) for name in sections}
    with chdir(folder):  # paths are relative to it
        return work_folder(stage, params.paths, configs).name


def _is_alive(path: Path) -> bool:
    try:
        return ProcessId.parse(path.read_text(encoding="utf-8")).is_alive()
    except (OSError, ValueError):
        return False


def _is_below(path: str, roots: set[str]) -> bool:
    return path in roots or any(parent.as_posix() in roots for parent in Path(path).parents)
