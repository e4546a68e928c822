"""MLflow's server on the socket that `make up` holds, in one process.

`mlflow server` starts its web server as a further process, and hands no socket on. The
settings are the environment variables of `mlflow server`; MLFLOW_AUTH_ADMIN_USERNAME and
_PASSWORD turn its basic authentication on, and are what it accepts from then on.
"""

import os
import secrets
from pathlib import Path
from typing import Any

from llm.files import write_text
from llm.listening import inherited, serve

# By these `mlflow server` configures its web server (mlflow/server/constants.py); a test compares.
SERVER_VARIABLES = {
    "_MLFLOW_SERVER_FILE_STORE": "MLFLOW_BACKEND_STORE_URI",
    "_MLFLOW_SERVER_REGISTRY_STORE": "MLFLOW_BACKEND_STORE_URI",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "MLFLOW_ARTIFACTS_DESTINATION",
}
AUTH = """[mlflow]
default_permission = READ
database_uri = sqlite:///{database}
admin_username =
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
# hashing a password takes longer than most requests; one that was right stays so for a minute
auth_cache_ttl_seconds = 60
"""


def main() -> None:
    """Databases first, so that what answers can answer."""
    configure()  # before MLflow is imported: it puts its guards up then
    if config := os.environ.get("MLFLOW_AUTH_CONFIG_PATH"):
        app = _guarded_app(Path(config))
    else:
        from mlflow.server.fastapi_app import app
    from mlflow.server.handlers import initialize_backend_stores

    store = os.environ["MLFLOW_BACKEND_STORE_URI"]
    initialize_backend_stores(store, store, os.environ["MLFLOW_DEFAULT_ARTIFACT_ROOT"])
    serve(app, inherited())


def configure() -> None:
    """Set what `mlflow server` hands to its web server."""
    for inner, given in SERVER_VARIABLES.items():
        if value := os.environ.get(given):
            os.environ[inner] = value
    if os.environ.get("MLFLOW_ARTIFACTS_DESTINATION"):
        os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
    os.environ["_MLFLOW_SGI_NAME"] = "uvicorn"


def _guarded_app(config: Path) -> Any:
    """The app that asks for a name and a password: those in the environment.

    MLflow takes a password from there only for the first start; it is set again when it
    has changed since. The file says nothing that is secret.
    """
    write_text(config, AUTH.format(database=config.with_suffix(".db")))
    os.environ.setdefault("MLFLOW_FLASK_SERVER_SECRET_KEY", secrets.token_hex())
    from mlflow.server import auth

    auth.bootstrap_admin_user()
    name = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]
    password = os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    if not auth.store.authenticate_user(name, password):
        auth.store.update_user(name, password=password)
    os.environ["_MLFLOW_AUTH_ADMIN_BOOTSTRAPPED"] = "true"
    return auth.create_app()


if __name__ == "__main__":
    main()
