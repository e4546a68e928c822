"""Promotion and rollback as flows: the same as `llm promote` and `llm rollback`, from the UI.

    prefect deployment run promote/default --param version=candidate --param reason=…

The verdicts are an artifact of the run. With approval the run pauses once the gates have
passed, and asks: *Resume* in the UI shows the table and a form. Declined, or not answered in
time, the version is not promoted, and that is on record as well.
"""

from pathlib import Path
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from flows.alive import alive
from flows.command import run_command
from flows.refusal import failing_plainly
from llm.config.params import Params, load_params
from llm.registry import promotion
from llm.registry.moves import Said, roll_back
from llm.registry.promotion import Answer, Decision, narrow_markdown, rows
from llm.registry.versions import Registry, tracking_uri_of

POLL_S = 2  # how soon an answer in the UI is noticed


class Approval(RunInput):
    """The form that the UI shows beside the table."""

    decision: Literal["approve", "decline"] = Field(description="Make it the champion?")
    name: str = Field(min_length=1, max_length=200, description="Who decides")
    comment: str = Field(default="", max_length=700, description="Why; kept with the version")


@flow(name="promote")
@failing_plainly
def promote(
    version: Annotated[
        str, Field(description="Number, alias, or models:/NAME/NUMBER of a registered version")
    ] = "candidate",
    reason: Annotated[str, Field(description="Why; it is kept with the version")] = "",
    approval: Annotated[
        bool | None,
        Field(description="Ask a person once the gates have passed; as params.yaml says if empty"),
    ] = None,
) -> None:
    """Make a version the champion, if it passes every gate beside the one that is."""
    params, registry = _open()
    asked = params.promote.approval if approval is None else approval
    logger = get_run_logger()
    with alive(Path.cwd(), str(flow_run.id)):
        move = promotion.promote(
            registry,
            version,
            params,
            Said(f"flow run {flow_run.name}", reason),
            run=_run,
            show=lambda decision: _show(registry, decision),
            ask=(lambda decision: _ask(decision, params)) if asked else None,
        )
    if move is None:
        logger.info("%s is the champion already; nothing was changed", version)
    else:
        logger.info("version %s is the champion; before: %s", move.version, move.champion)


@flow(name="rollback")
@failing_plainly
def rollback(
    reason: Annotated[str, Field(description="Why; it is kept with the versions")] = "",
    name: Annotated[str, Field(description="Who decides; the flow run if empty")] = "",
) -> None:
    """Make the previous champion the champion again; no gate is asked."""
    params, registry = _open()
    said = Said(name or f"flow run {flow_run.name}", reason)
    move = roll_back(registry, params.register_.name, said, Path(params.paths.work) / "locks")
    message = "version %s is the champion again; %s is previous"
    get_run_logger().info(message, move.version, move.champion)


def _open() -> tuple[Params, Registry]:
    params = load_params(Path("params.yaml"))
    return params, Registry(tracking_uri_of(Path(params.paths.work)))


def _run(command: list[str]) -> None:
    """Measure in a process of its own, whose lines are in the run's log; it ends with the run."""
    logger = get_run_logger()
    run_command(command, Path.cwd(), {"PYTHONUNBUFFERED": "1"}, lambda line: logger.info(line))


def _show(registry: Registry, decision: Decision) -> None:
    """The verdicts as an artifact of the run."""
    version, title = decision.candidate, decision.title
    if registry.uri.startswith("http"):
        page = f"{registry.uri}/#/models/{version.name}/versions/{version.number}"
        title = f"{title}. [The version in MLflow]({page})"
    description = f"{title}. {decision.summary}."
    create_table_artifact(table=rows(decision), key="gates", description=description)
    get_run_logger().info("%s: %s", decision.title, decision.summary)


def _ask(decision: Decision, params: Params) -> Answer:
    """Pause until a person answers in the UI; no answer in time is a no."""
    form = Approval.with_initial_data(description=narrow_markdown(decision))
    timeout_s = params.promote.approval_timeout_s
    try:
        said = pause_flow_run(wait_for_input=form, timeout=timeout_s, poll_interval=POLL_S)
    except FlowPauseTimeout:
        return Answer(False, "nobody", f"no answer within {timeout_s} s")
    return Answer(said.decision == "approve", said.name, said.comment)
