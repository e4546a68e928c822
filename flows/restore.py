"""Stages whose results are in DVC's cache, checked out without running any; one process for all.

    python -m flows.restore [--earlier FOLDER] STAGE ...

in a DVC project's root, the stages in an order that works. Prints a JSON line for each that is
now as DVC wants it; the others, and those that need them, have to run. It does for
each stage what `dvc repro --single-item` does before it would run the command; that as a
process per stage takes more time than all of them together.

FOLDER has the dvc.lock, metrics and timings of an earlier run. They say what a stage's
result is that DVC keeps in no run cache (`persist: true`), and count only for stages
whose command, params and deps are the same, by their hashes.
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.stage import PipelineStage, Stage
from dvc.stage.loader import StageLoader

from flows.disk import full_disk
from llm.tracking.lineage import read_lock

UNCHANGED = "didn't change"
FROM_CACHE = "is in the cache: checked out"


def main() -> None:
    """Restore the stages that the command line names as far as the cache has them; say which."""
    parser = argparse.ArgumentParser(description="check out what is in the cache")
    parser.add_argument("stages", nargs="*")
    parser.add_argument("--earlier", type=Path, action="append", default=[])
    given = parser.parse_args()
    logging.getLogger("dvc").setLevel(logging.WARNING)
    known = [(folder, read_lock(folder / "dvc.lock")) for folder in given.earlier]
    try:
        with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
            _restore_all(repo, given.stages, known)
    except Exception as error:
        if full := full_disk(error):
            sys.exit(f"error: {full}")
        raise


def _restore_all(repo: Repo, names: list[str], known: list[tuple[Path, dict[str, Any]]]) -> None:
    _check_out_data(repo)
    stages = {stage.name: stage for stage in repo.index.stages if isinstance(stage, PipelineStage)}
    done: dict[str, PipelineStage] = {}
    for name in names:
        stage = stages[name]
        if _needs(repo, stage) <= done.keys() and (how := restore(stage, known)):
            done[name] = stage
            print(json.dumps({"stage": name, "how": how}), flush=True)  # noqa: T201
    _lock(list(done.values()))


def restore(stage: PipelineStage, known: list[tuple[Path, dict[str, Any]]]) -> str | None:
    """Bring the stage and its outs up to date from the cache, and say how; None if it can't."""
    try:
        if not stage.changed():
            return UNCHANGED
        if _is_as_locked(stage):
            return FROM_CACHE
        for folder, lock in known:
            if stage.name in lock and _is_as_earlier(stage, folder, lock[stage.name]):
                return FROM_CACHE
        stage.remove_outs()  # of other content; a run of the stage would do so first as well
        stage.repo.stage_cache.restore(stage)
        stage.save()
        stage.commit()
    except DvcException:
        return None  # not cached; or something is in the way, which `dvc repro` removes or reports
    return FROM_CACHE


def _lock(stages: list[PipelineStage]) -> None:
    """Write the stages into dvc.lock: all at once, since DVC reads and writes the whole file."""
    if stages:
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


def _is_as_locked(stage: PipelineStage) -> bool:
    """Whether dvc.lock holds for the stage once its outs are checked out."""
    if stage.changed_stage() or stage.changed_deps():
        return False
    if any(out.use_cache and out.changed_cache() for out in stage.outs):
        return False  # the cache has lost one
    stage.checkout(force=True)
    return not stage.changed_outs()


def _is_as_earlier(stage: PipelineStage, folder: Path, locked: Mapping[str, Any]) -> bool:
    """The same for an earlier dvc.lock; what git keeps instead of the cache is copied."""
    stage.cmd_changed = locked.get("cmd") != stage.cmd
    StageLoader.fill_from_lock(stage, locked)
    if stage.changed_stage() or stage.changed_deps():
        return False
    for out in stage.outs:
        source, target = folder / out.def_path, Path(out.fs_path)
        if not out.use_cache and source.is_file() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return _is_as_locked(stage)


def _needs(repo: Repo, stage: Stage) -> set[str]:
    needs = repo.index.graph.successors(stage)
    return {str(need.name) for need in needs if isinstance(need, PipelineStage)}


def _check_out_data(repo: Repo) -> None:
    """What `dvc add` tracks. What the cache lacks is missed by the stage that reads it."""
    files = [
        stage.addressing for stage in repo.index.stages if not isinstance(stage, PipelineStage)
    ]
    try:
        if files:
            repo.checkout(files, force=True)
    except DvcException as error:
        print(f"not in the cache: {error}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
