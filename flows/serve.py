"""Serve the deployments: runs asked for in the UI or with `prefect deployment run` start here."""

import logging
from pathlib import Path
from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.form import prefilled
from flows.pipeline import align, build_llm, corpus, evaluate, train
from flows.promotion import promote, rollback
from flows.refresh import refresh, refresh_schedules
from flows.sweep import sweep
from llm.errors import LLMError

logger = logging.getLogger(__name__)

CHAIN: tuple[Flow[Any, Any], ...] = (build_llm, corpus, train, align, evaluate)  # ask for params
REGISTRY: tuple[Flow[Any, Any], ...] = (promote, rollback)


def deployments(root: Path) -> list[RunnerDeployment]:
    """Every deployment, each named `default`, with its form filled in where it asks for params."""
    values = _prefilled(root)
    return [
        *(deployment(each, parameters=values) for each in CHAIN),
        *(deployment(each) for each in REGISTRY),
        deployment(refresh, parameters=values, schedules=refresh_schedules(), concurrency_limit=1),
        deployment(sweep),
    ]


def deployment(of: Flow[Any, Any], **settings: Any) -> RunnerDeployment:
    """The flow's deployment; a run imports the flow's module in the project's root."""
    return RunnerDeployment.from_flow(
        of, "default", entrypoint_type=EntrypointType.MODULE_PATH, **settings
    )


def _prefilled(root: Path) -> dict[str, Any]:
    """An invalid params.yaml empties the form and no more: a run can still be asked for by overrides."""
    try:
        return prefilled(root)
    except LLMError as error:
        logger.warning("the form starts empty: %s", error)
        return {}


if __name__ == "__main__":
    serve(*deployments(Path.cwd()), pause_on_shutdown=False, print_starting_message=False)
