"""Gather again, and rebuild only if the corpus has changed. Its schedule is off until it is asked for.

LLM_REFRESH_CRON="0 3 * * 1"    when, as cron says it; unset: weekly, and switched off
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import State
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Failed

from flows.alive import alive
from flows.artifacts import Artifacts, table
from flows.build import build, shared_environment
from flows.earlier import earlier_results
from flows.form import NO_OVERRIDES, FormParams, Overrides, Preset, Request, form_changes
from flows.inputs import check_inputs
from flows.refusal import failing_plainly
from flows.stage import Workplace
from flows.worktree import git, worktree
from llm.config.params import load_params
from llm.config.presets import dotted
from llm.errors import ConfigError
from llm.files import read_json, write_text
from llm.tracking.lineage import out_md5s, read_lock

WEEKLY = "0 3 * * 1"
STAGE = "gather"
PENDING = Path(".llm") / "refresh.pending"  # a new corpus has not been built to the end yet


@flow(name="refresh", description="Gather again; rebuild everything if the corpus has changed.")
@failing_plainly
def refresh(
    preset: Preset = None,
    overrides: Overrides = NO_OVERRIDES,
    params: FormParams = None,
) -> State[Any] | None:
    """Gather again, and build what follows if that gave another corpus than the last time.

    Args:
        preset: A file of presets/, applied to the committed params.yaml.
        overrides: Dotted keys of params.yaml, applied last, e.g. `{"dpo.beta": 0.2}`.
        params: params.yaml. Only what you change here counts, after the preset.
    """
    root = Path.cwd()
    asked = {**dotted(form_changes(params)), **(overrides or {})}
    with alive(root, str(flow_run.id)):
        found = _gather_again(root, Request(preset, overrides=asked))
        get_run_logger().info(found.verdict)
        if not found.rebuild:
            return None

        @flow(name="build-llm")
        @failing_plainly
        def rebuild(preset: str | None, overrides: dict[str, Any]) -> None:
            build(Request(preset, overrides=overrides), start=found.branch)

        built = rebuild(preset, asked, return_state=True)
        if not built.is_completed():
            return Failed(message=built.message)
        (root / PENDING).unlink(missing_ok=True)
    return None


def refresh_schedules() -> list[DeploymentScheduleCreate] | None:
    """Weekly and off, or as LLM_REFRESH_CRON says; None leaves what a person has set in the UI."""
    cron = os.environ.get("LLM_REFRESH_CRON", "")
    if not cron and _is_deployed():
        return None
    try:
        schedule = CronSchedule(cron=cron or WEEKLY)
    except ValueError:
        raise ConfigError(f"LLM_REFRESH_CRON={cron!r} is no cron line; e.g. {WEEKLY!r}") from None
    return [DeploymentScheduleCreate(schedule=schedule, active=bool(cron), slug="refresh")]


@dataclass(frozen=True)
class Found:
    """What gathering again gave."""

    rebuild: bool
    verdict: str
    branch: str  # has the new corpus in its dvc.lock


def _gather_again(root: Path, request: Request) -> Found:
    """Gather in a worktree; a corpus that is the same leaves nothing behind, a new one its branch."""
    name, run_id = str(flow_run.name), str(flow_run.id)
    with worktree(root, name, run_id) as tree:
        request.write_params(tree)
        params = load_params(tree.folder / "params.yaml")
        check_inputs(root, tree.folder, params, [STAGE])
        out = str(params.paths.stage(STAGE))
        before = _last(out, [*earlier_results(root, tree), tree.folder])
        workplace = Workplace(tree.folder, {**shared_environment(root), "LLM_TRACKING": "off"})
        log = get_run_logger()
        workplace.run(
            "flows.repro",
            [STAGE, "--force", "--no-commit"],
            lambda line: log.info("gather | %s", line),
        )
        after = _last(out, [tree.folder])
        metrics = read_json(tree.folder / params.paths.metric(STAGE))
        pending = (root / PENDING).exists()
        found = Found(before != after or pending, _say(before, after, pending), tree.branch)
        if found.rebuild:
            write_text(root / PENDING, tree.branch)
            workplace.run("dvc", ["commit", "--force", STAGE], log.info)
            tree.commit(f"corpus of {name}")
        Artifacts(run_id, tree.folder, params).show("refresh", _text(found, before, after, metrics))
    if not found.rebuild:
        git(root, "branch", "--delete", "--force", tree.branch)
    return found


def _last(out: str, folders: list[Path]) -> str | None:
    """The hash of gather's out in the first dvc.lock that has it."""
    for folder in folders:
        md5 = out_md5s(read_lock(folder / "dvc.lock").get(STAGE, {})).get(out)
        if md5 is not None:
            return md5
    return None


def _say(before: str | None, after: str | None, pending: bool) -> str:
    if before is None:
        return "There is no earlier corpus to compare with: everything is built."
    if before != after:
        return "The corpus has changed: everything that follows is built again."
    if pending:
        return "The corpus is the same, but it was not built to the end: that is done now."
    return "The corpus is the same: nothing is built."


def _text(found: Found, before: str | None, after: str | None, metrics: dict[str, Any]) -> str:
    sources = [
        (name, f"{source['documents']:,}", f"{source['bytes']:,}")
        for name, source in metrics.get("by_source", {}).items()
    ]
    rows = [("last corpus", before or "none"), ("gathered now", after)]
    return (
        f"# {found.verdict}\n\n{table(('', 'hash'), rows)}\n\n"
        f"{table(('source', 'documents', 'bytes'), sources)}\n"
    )


def _is_deployed() -> bool:
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name("refresh/default")
        except ObjectNotFound:
            return False
    return True
