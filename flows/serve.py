"""Serve the deployments: runs asked for in the UI or with `prefect deployment run` start here."""

from typing import Any

from prefect import Flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.pipeline import build_llm
from flows.promotion import promote, rollback

FLOWS: tuple[Flow[Any, Any], ...] = (build_llm, promote, rollback)

if __name__ == "__main__":
    deployments = [
        RunnerDeployment.from_flow(each, "default", entrypoint_type=EntrypointType.MODULE_PATH)
        for each in FLOWS
    ]
    serve(*deployments, pause_on_shutdown=False, print_starting_message=False)
