"""Serve the deployments: runs asked for in the UI or with `prefect deployment run` start here."""

from prefect import serve
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.pipeline import build_llm

if __name__ == "__main__":
    deployment = RunnerDeployment.from_flow(
        build_llm, "default", entrypoint_type=EntrypointType.MODULE_PATH
    )
    serve(deployment, pause_on_shutdown=False, print_starting_message=False)
