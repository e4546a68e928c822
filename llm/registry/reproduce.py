"""A registered version made again, in a git worktree of its commit, and compared byte by byte.

    with reproduction(registry, version, root, scratch=True) as made:
        made.run(print)
        for row in made.compare(): ...

From the cache, every stage that DVC has the result of is restored, and only the rest is
run. From scratch, nothing is taken from the cache: every stage runs. Either way the md5
of every out is then computed anew from the files. Stage `register` never runs: it acts on
the world. The worktree stays until the version is proven, so an interrupted reproduction
is continued by the next.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm import tied
from llm.config.base import read_yaml
from llm.config.paths import Paths
from llm.errors import ConfigError, LLMError
from llm.files import read_json, write_json
from llm.git import git, has_commit
from llm.process import SHARED_WORK
from llm.registry.cache import path_md5
from llm.registry.packages import PYTHON, differences, distribution_names, installed_packages
from llm.registry.record import REGISTER, Record, changed_code, read_record
from llm.registry.versions import LOCK_FILE, Registry, Version
from llm.tracking.lineage import out_md5s, read_lock
from llm.worktree import checkouts, remove_worktree, share_cache, using_cache

PREPARED = Path(".llm") / "reproduce.json"  # written last, when the worktree is ready
FOLDER = Path(".llm") / "worktrees"
MAY_DIFFER = ("timings", "reports")  # in params.yaml's `paths`


@dataclass(frozen=True)
class Compared:
    """One out then and now."""

    stage: str
    path: str
    then: str
    now: str | None  # None when it was not made
    may_differ: bool  # a measured time, or a page that shows such

    @property
    def same(self) -> bool:
        """Whether the bytes are the version's."""
        return self.then == self.now


class Reproduction:
    """A version's worktree, ready to run."""

    def __init__(self, record: Record, folder: Path, scratch: bool) -> None:
        self.record, self.folder, self.scratch = record, folder, scratch

    def run(self, on_line: Callable[[str], None]) -> None:
        """`dvc repro` of every stage but register; LLMError when it fails, with its log handed on."""
        stages = [s for s in read_yaml(self.folder / "dvc.yaml")["stages"] if s != REGISTER]
        options = ["--no-run-cache"] if self.scratch else _pull(self.folder)
        command = ["dvc", "repro", *options, *stages]
        if code := _stream([sys.executable, "-m", *command], self.folder, on_line):
            raise LLMError(
                f"`{' '.join(command)}` failed (exit {code}) in {self.folder}; the same "
                "`llm reproduce` continues there"
            )

    def compare(self) -> list[Compared]:
        """Every out of the version, in the order of the stages."""
        paths = Paths.model_validate(self.record.params["paths"])
        exempt = [getattr(paths, name) for name in MAY_DIFFER]
        stage_of = {
            path: stage
            for stage, locked in read_lock(self.folder / "dvc.lock").items()
            for path in out_md5s(locked)
        }
        order = {path: n for n, path in enumerate(stage_of)}
        compared = [
            Compared(
                stage=stage_of.get(path, "?"),
                path=path,
                then=then,
                now=path_md5(self.folder / path),
                may_differ=any(path == each or path.startswith(f"{each}/") for each in exempt),
            )
            for path, then in self.record.outs.items()
        ]
        return sorted(compared, key=lambda row: order.get(row.path, len(order)))

    def first_to_differ(self, compared: list[Compared]) -> list[str]:
        """The stages that differ though all that they read is the same: where it began."""
        differ = {row.path for row in compared if not row.same and not row.may_differ}
        stages = list(dict.fromkeys(row.stage for row in compared if row.path in differ))
        lock = read_lock(self.folder / "dvc.lock")
        return [
            stage
            for stage in stages
            if not any(dep["path"] in differ for dep in lock.get(stage, {}).get("deps", []))
        ]


@contextmanager
def reproduction(
    registry: Registry, version: Version, root: Path, *, scratch: bool, anyway: bool
) -> Iterator[Reproduction]:
    """The version's worktree, new or as an interrupted reproduction left it.

    ConfigError when what made the version is not known or not in a commit (unless
    `anyway`), or when another process is reproducing it.
    """
    record = read_record(registry, version, root)
    _check(record, root, anyway)
    name = f"reproduce-{version.name}-{version.number}{'-scratch' if scratch else ''}"
    folder = root / FOLDER / name
    with _only_one(root, name), using_cache(root):
        _prepare(registry, version, record, root, folder, scratch)
        yield Reproduction(record, folder, scratch)


def package_reasons(record: Record) -> list[str]:
    """The packages whose documentation is the corpus, and Python, where they differ from then."""
    if not record.packages:
        return ["the version does not say with which packages it was made"]
    differ = differences(record.packages, installed_packages())
    sources = record.value("gather", "sources") or []
    harvested = [name for source in sources for name in source.get("packages", [])]
    named = {PYTHON, *distribution_names(harvested).values(), *harvested}
    return [
        f"{name} was {then or 'not installed'}, is {now or 'not installed'}"
        for name, (then, now) in differ.items()
        if name in named
    ]


def _check(record: Record, root: Path, anyway: bool) -> None:
    if record.commit == "none" or not has_commit(root, record.commit):
        raise ConfigError(
            f"{record.name} was made from commit {record.commit}, which is not in this "
            "repository; `git fetch --all`, or reproduce it where it was registered"
        )
    if not record.params:
        raise ConfigError(
            f"{record.name} keeps no params.yaml, and that of its commit {record.commit[:12]} has "
            "another hash: its params are not known"
        )
    changed = changed_code(record, root)
    if not anyway and (changed or (changed is None and record.dirty)):
        what = ", ".join(changed) if changed else "which files is not known"
        raise ConfigError(
            f"{record.name} cannot be proven: it was made from a working tree that differed from "
            f"its commit {record.commit[:12]} in what the stages read ({what}), and nobody has "
            "kept that; give --anyway to build the commit as it is and see what differs"
        )


def _prepare(
    registry: Registry, version: Version, record: Record, root: Path, folder: Path, scratch: bool
) -> None:
    """Check out the commit with the version's params.yaml and, unless from scratch, its dvc.lock."""
    marker = folder / PREPARED
    known = folder.resolve() in {each.folder for each in checkouts(root)}
    if known and marker.is_file() and read_json(marker)["commit"] == record.commit:
        return
    remove_worktree(root, folder)
    git(root, "worktree", "add", "--quiet", "--detach", str(folder), record.commit)
    share_cache(root, folder)
    _write_params(folder, record)
    (folder / "dvc.lock").unlink(missing_ok=True)
    if record.stages and not scratch:
        shutil.copyfile(registry.files(version, LOCK_FILE), folder / "dvc.lock")
    write_json(marker, {"version": version.uri, "commit": record.commit, "scratch": scratch})


def _write_params(folder: Path, record: Record) -> None:
    """The version's params.yaml; the commit's stays where it says the same."""
    from ruamel.yaml import YAML

    path = folder / "params.yaml"
    if not path.is_file() or read_yaml(path) != record.params:
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(dict(record.params), file)


def _pull(folder: Path) -> list[str]:
    """What the cache lacks comes from the remote, where there is one."""
    from dvc.repo import Repo

    with Repo(str(folder)) as repo:
        config: Any = repo.config  # DVC has no types for it
        return ["--pull"] if config["core"].get("remote") else []


def _stream(command: list[str], folder: Path, on_line: Callable[[str], None]) -> int:
    """Run a command that ends with us, hand on its output line by line; its exit code.

    A Ctrl-C reaches it as well, since it shares our process group: it is waited for.
    """
    # `python` in dvc.yaml is the interpreter that runs us
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "LLM_TRACKING": "off"}
    environment.pop(SHARED_WORK, None)  # nothing of another run's is continued
    process = subprocess.Popen(
        [sys.executable, str(tied.__file__), *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            on_line(line.rstrip())
        return process.wait()
    finally:
        for line in process.stdout:  # what it says while it saves its work
            on_line(line.rstrip())
        process.wait()


@contextmanager
def _only_one(root: Path, name: str) -> Iterator[None]:
    path = root / ".llm" / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another process is at it already (it holds {path})") from None
        yield
