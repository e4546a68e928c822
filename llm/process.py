"""A stage as a process: validated before any work, one at a time, recorded, and ended with its parent.

    if __name__ == "__main__":
        main("dedup", run, dedup=DedupConfig)

calls `run(ctx, dedup=...)` and writes the metrics that it returns.

Environment
    LLM_WORKERS      processes of a map over shards
    LLM_WORK         folder of the work in progress instead of `<paths.work>/work`, set by flows:
                     what a run in one worktree left, the next one continues in another
    LLM_RENDEZVOUS   host:port of one of the machines, where `launch.nodes` of them meet
"""

import fcntl
import hashlib
import json
import logging
import math
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from llm.config.base import Section, load_section, read_yaml, value_at
from llm.config.paths import Paths
from llm.errors import ConfigError, LLMError, UnreachableError
from llm.files import fingerprint, is_disk_full, write_json
from llm.resident import peak_mib
from llm.tied import EXIT_TERMINATED, tie_to_parent
from llm.tracking.spool import Recorder, flatten, recording

PARAMS = Path("params.yaml")
GRAPH = Path("dvc.yaml")
SHARED_WORK = "LLM_WORK"
RENDEZVOUS = "LLM_RENDEZVOUS"
LOCK_WAIT_S = 60

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What a stage may touch besides its own section."""

    name: str
    paths: Paths
    work: Path  # for work in progress: kept between attempts at the same inputs, removed on success
    workers: int = 1  # local processes for a map over shards
    scheduler: str = ""  # of the Dask cluster whose workers are used instead
    log: Callable[[int, Mapping[str, float]], None] = lambda step, metrics: None
    record: Callable[[Path], None] = lambda path: None  # a file, with the run
    timings: dict[str, float] = field(
        default_factory=dict
    )  # throughput and the like, not reproducible

    @property
    def out(self) -> Path:
        """The folder that this stage writes, for stages that own one under `paths.data`."""
        return self.paths.stage(self.name)

    def keep(self, file: Path) -> None:
        """Move a file that is no out from the work to `<paths.work>/kept/<stage>`, and record it."""
        kept = Path(self.paths.work) / "kept" / self.name / file.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(file, kept)
        logger.info("%s: wrote %s", self.name, kept)
        self.record(kept)


def main(name: str, run: Callable[..., dict[str, Any]], **sections: type[Section]) -> None:
    """Run a stage as its own process and exit.

    0 done, 1 a person's error, 75 a server did not answer (try again later), 143 terminated.
    """
    first = os.environ.get("RANK", "0") == "0"  # the other ranks would say the same
    level = logging.INFO if first else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
    tie_to_parent()
    signal.signal(signal.SIGTERM, _terminate)
    try:
        _validate_everything(name)
        configs = {key: load_section(cls, key, PARAMS) for key, cls in sections.items()}
        paths = load_section(Paths, "paths", PARAMS)
        _relaunch_under_torchrun(name, paths, configs)
        if int(os.environ.get("RANK", "0")):
            run(Context(name, paths, work_folder(name, paths, configs)), **configs)
        else:
            _run_recorded(name, run, paths, configs)
    except LLMError as error:
        logger.error("error: %s: %s", name, error)
        sys.exit(os.EX_TEMPFAIL if isinstance(error, UnreachableError) else 1)
    except Exception as error:
        if not is_disk_full(error):
            raise
        logger.error(
            "error: %s: the disk is full (%s); free some space and run it again: it goes on from "
            "its last checkpoint, and nothing half-written is left",
            name,
            error,
        )
        sys.exit(1)
    finally:  # Python's own end would tell of an exit in its middle
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def work_folder(name: str, paths: Paths, configs: Mapping[str, Section]) -> Path:
    """Where stage `name` keeps work in progress: one folder per content of its params and deps.

    DVC deletes outs before a stage runs, so an interrupted stage finds its work only
    outside them, and finds it only while nothing that it depends on has changed. Section
    `launch` doesn't count: what some processes began, more or fewer may go on with.
    """
    values = {
        key: config.model_dump(by_alias=True)
        for key, config in sorted(configs.items())
        if key != "launch"
    }
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for dep in stage_deps(name, paths):
        if not Path(dep).exists():
            raise ConfigError(f"{dep} does not exist; run `dvc repro {name}`, which makes it first")
        digest.update(f"{dep}={fingerprint(Path(dep))};".encode())
    return _work_root(paths) / f"{name}-{digest.hexdigest()[:16]}"


def _work_root(paths: Paths) -> Path:
    return Path(os.environ.get(SHARED_WORK) or Path(paths.work) / "work")


def stage_deps(name: str, paths: Paths) -> list[str]:
    """The deps of stage `name` in dvc.yaml, with `${paths.…}` filled in."""
    deps = read_yaml(GRAPH)["stages"][name]["deps"]
    for key, value in paths.model_dump().items():
        deps = [dep.replace(f"${{paths.{key}}}", value) for dep in deps]
    return deps


def is_watched(path: Path, name: str, paths: Paths) -> bool:
    """Whether DVC runs stage `name` again when the file or folder changes."""
    deps = stage_deps(name, paths) if GRAPH.exists() else []
    return any(path.resolve().is_relative_to(Path(dep).resolve()) for dep in deps)


def warn_of_unwatched(ctx: Context, named: Iterable[str]) -> None:
    """Say which files that params name DVC does not watch: it would not run again for them."""
    for path in named:
        if not is_watched(Path(path), ctx.name, ctx.paths):
            logger.warning(
                "DVC does not see when %s changes; add it to the deps of %s in %s",
                path,
                ctx.name,
                GRAPH,
            )


@contextmanager
def exclusive(
    path: Path, wait_s: float = math.inf, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Hold the lock file at `path`, which goes at the end; LLMError after waiting `wait_s` seconds.

    The wait is for a former process that is still saving, or for another run's same work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    waited = False
    while True:
        with path.open("a") as file:
            if _is_locked(file, path):
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        if not waited:
            waited = True
            on_wait()
        if time.monotonic() > deadline:
            raise LLMError(
                f"another process runs this stage here (it holds {path}); wait for it or end it"
            )
        time.sleep(0.2)


def _is_locked(file: IO[str], path: Path) -> bool:
    """Whether we have got the lock, and of the file that lies at `path` still."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def worker_count() -> int:
    """Local processes for a map over shards: LLM_WORKERS, or the cores this process may use."""
    given = os.environ.get("LLM_WORKERS", "")
    if given and not (given.isdigit() and int(given)):
        raise ConfigError(f"LLM_WORKERS={given!r} must be a whole number of processes, 1 or more")
    return int(given) if given else len(os.sched_getaffinity(0))


def _run_recorded(
    name: str, run: Callable[..., dict[str, Any]], paths: Paths, configs: Mapping[str, Section]
) -> None:
    """Rank 0's half: lock, record, run, write metrics and timings, forget the work in progress."""
    work = work_folder(name, paths, configs)
    outs_lock = Path(paths.work) / "locks" / f"{name}.lock"
    with exclusive(outs_lock, LOCK_WAIT_S), exclusive(Path(f"{work}.lock"), LOCK_WAIT_S):
        params = {key: config.model_dump(by_alias=True) for key, config in configs.items()}
        started = time.monotonic()
        with recording(name, Path(paths.work), params, stage_deps(name, paths)) as recorder:
            scheduler = value_at(read_yaml(PARAMS), "cluster.scheduler")
            ctx = Context(name, paths, work, worker_count(), scheduler, recorder.log, recorder.keep)
            metrics = run(ctx, **configs)
            ctx.timings.update(_usage(time.monotonic() - started))
            write_json(paths.metric(name), metrics)
            write_json(paths.timing(name), ctx.timings)
            _record_results(recorder, metrics, ctx.timings)
        _forget(name, work)


def _forget(name: str, work: Path) -> None:
    """Remove the work in progress, and that of former params; among several runs, only our own."""
    shared = SHARED_WORK in os.environ
    for done in [work] if shared else work.parent.glob(f"{name}-*"):
        shutil.rmtree(done, ignore_errors=True)


def _record_results(recorder: Recorder, metrics: dict[str, Any], timings: dict[str, float]) -> None:
    recorder.log_final(flatten(metrics))
    recorder.log_final({f"timings/{key}": value for key, value in timings.items()})


def _usage(wall_s: float) -> dict[str, float]:
    """Seconds, and memory: own peak and that of the map's workers.

    The process that sends records to MLflow, and dvc itself, are not in it.
    """
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "peak_rss_mb": round(peak_mib(), 1),
    }


def _validate_everything(name: str) -> None:
    """Refuse a params.yaml with any error in any section, or with what this machine cannot hold or
    has not, before any stage does any work.

    Imported here because this can only refuse, never change a result: the whole
    file's types are not a dependency of each stage.
    """
    from llm.config.params import load_params
    from llm.plan.preflight import check_stage

    params = load_params(PARAMS)
    if "LOCAL_RANK" not in os.environ:  # torchrun's first process has asked
        check_stage(params, name, _work_root(params.paths))


def _relaunch_under_torchrun(name: str, paths: Paths, configs: Mapping[str, Section]) -> None:
    """Become torchrun when `launch` asks for more than one process and we are not yet in it.

    llm/torchrun.py is imported nowhere, since it changes no result: no stage depends on it.
    """
    launch = configs.get("launch")
    nodes, nproc = getattr(launch, "nodes", 1), getattr(launch, "nproc_per_node", 1)
    if nodes * nproc == 1 or "LOCAL_RANK" in os.environ:
        return
    module = sys.modules["__main__"].__spec__
    assert module is not None, "stages are started with `python -m`"
    work = work_folder(name, paths, configs)
    torchrun = ["-m", "llm.torchrun", name, str(work), f"--nproc-per-node={nproc}"]
    torchrun += ["--standalone"] if nodes == 1 else _rendezvous(nodes, module.name)
    os.execv(sys.executable, [sys.executable, *torchrun, "-m", module.name])


def _rendezvous(nodes: int, name: str) -> list[str]:
    """Where the torchruns of all nodes find each other, each stage's among themselves."""
    address = os.environ.get(RENDEZVOUS, "")
    if not re.fullmatch(r"\S+:\d+", address):
        raise ConfigError(
            f"launch.nodes={nodes} needs the address host:port of one of the nodes in "
            f"{RENDEZVOUS}, the same on all of them; it is {address!r}"
        )
    backend = ["--rdzv-backend=c10d", f"--rdzv-endpoint={address}", f"--rdzv-id={name}"]
    return [f"--nnodes={nodes}", *backend]


def _terminate(signum: int, frame: Any) -> None:
    """SIGTERM unwinds like an exit, so that temporary files go; training overrides it to save first."""
    sys.exit(EXIT_TERMINATED)
