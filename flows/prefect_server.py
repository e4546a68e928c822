"""Prefect's server on the socket that `make up` holds. Its settings are in the environment."""

from prefect.server.api.server import create_app

from llm.listening import inherited, serve

if __name__ == "__main__":
    serve(create_app(final=True), inherited())
