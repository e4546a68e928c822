"""Prefect's server on the socket that `make up` holds. Its settings are in the environment."""

from prefect.server.api.server import create_app

from flows.listen import serve
from flows.supervisor import STOP_S

if __name__ == "__main__":
    serve(create_app(final=True), timeout_graceful_shutdown=STOP_S)
