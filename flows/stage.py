"""A DVC stage as a Prefect task."""

import os
import sys
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from pydantic import BaseModel

from flows.command import run_command


class Run(BaseModel):
    """What every stage of one pipeline run is given."""

    flow_run_id: str  # the whole chain's, above the sub-flow's
    folder: Path  # the worktree
    environment: dict[str, str]  # added to the process's own
    stage_timeout_s: float | None


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE)  # DVC is the only cache
def run_stage(stage: str, run: Run) -> None:
    """`dvc repro` of this stage alone; CommandError when it fails.

    Its output is in the log of the task run and, so that the whole chain can be read in
    one place, of the whole chain's run instead of the sub-flow's.
    """
    logger = get_run_logger(flow_run_id=run.flow_run_id)
    # `python` in dvc.yaml is the interpreter that runs this flow
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    run_command(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--single-item", stage],
        run.folder,
        {"PATH": path, "PYTHONUNBUFFERED": "1", **run.environment},
        lambda line: logger.info("%s | %s", stage, line),
        run.stage_timeout_s,
    )
