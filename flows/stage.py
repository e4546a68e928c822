"""A DVC stage as a Prefect task: from the cache, or as a process that is retried where that can help."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.artifacts import Artifacts
from flows.command import CommandError, run_command
from flows.progress import Progress

RETRY_DELAYS_S = (5.0, 30.0, 120.0)  # before each new attempt, where a server did not answer
KILLED_DELAYS_S = RETRY_DELAYS_S[:1]  # where the process was killed: once, since training resumes

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


@dataclass(frozen=True)
class Workplace:
    """Where the commands of one pipeline run work, and what they are told."""

    folder: Path  # the worktree
    environment: Mapping[str, str]  # added to the process's own
    ending: threading.Event = field(default_factory=threading.Event)  # set: nothing new begins

    def run(
        self,
        module: str,
        arguments: list[str],
        on_line: Callable[[str], None],
        timeout_s: float | None = None,
    ) -> None:
        """Run one of our modules in the worktree: this checkout's module, not the worktree's own."""
        ours = str(Path(__file__).parents[1])
        environment = {
            # `python` in dvc.yaml is the interpreter that runs this flow
            "PATH": _joined(str(Path(sys.executable).parent), os.environ.get("PATH")),
            "PYTHONPATH": _joined(ours, os.environ.get("PYTHONPATH")),
            "PYTHONUNBUFFERED": "1",
            **self.environment,
        }
        command = [sys.executable, "-P", "-m", module, *arguments]
        run_command(command, self.folder, environment, on_line, timeout_s, self.ending)


@dataclass(frozen=True)
class Run:
    """What every stage of one pipeline run is given."""

    flow_run_id: str  # the whole chain's, above the sub-flow's
    workplace: Workplace
    timeout_s: float | None  # of a stage
    restored: Mapping[str, str]  # stage -> how; what the cache had when the run began
    forced: frozenset[str]  # made even if nothing has changed
    progress: Progress
    artifacts: Artifacts


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE)  # DVC is the only cache
def run_stage(stage: str, run: Run) -> None:
    """Bring one stage up to date and show its results; CommandError when it fails.

    Its output is in the log of the task run and, so that the whole chain can be read in
    one place, of the whole chain's run instead of the sub-flow's.
    """
    logger = get_run_logger(flow_run_id=run.flow_run_id)
    if how := run.restored.get(stage):
        logger.info("%s | %s", stage, how)
    else:
        with run.progress.at_work(stage):
            _repro_patiently(stage, run, logger)
    run.artifacts.publish(stage)


def retry_delays(error: CommandError) -> tuple[float, ...]:
    """Seconds before each new attempt; none where a new attempt would end the same way."""
    if error.ended_by_us:
        return ()
    if error.code == os.EX_TEMPFAIL:
        return RETRY_DELAYS_S
    return KILLED_DELAYS_S if error.signal is not None else ()


def _repro_patiently(stage: str, run: Run, logger: Logger) -> None:
    """`dvc repro` of this stage alone.

    The attempts are ours and not Prefect's: a cancellation must end the wait between them.
    """
    arguments = [stage, *(["--force"] if stage in run.forced else [])]
    attempt = 0
    while True:
        try:
            run.workplace.run(
                "flows.repro",
                arguments,
                lambda line: logger.info("%s | %s", stage, line),
                run.timeout_s,
            )
            return
        except CommandError as error:
            delays = retry_delays(error)
            if attempt == len(delays):
                raise
            why = str(error).partition("\n")[0]
            logger.warning("%s | %s; tries again in %g s", stage, why, delays[attempt])
            if run.workplace.ending.wait(delays[attempt]):
                raise
        attempt += 1


def _joined(first: str, rest: str | None) -> str:
    return os.pathsep.join([first, *filter(None, [rest])])
