"""Small questions to the servers, without the seconds that importing their clients takes."""

import base64
import json
import urllib.request
from datetime import datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from flows.servers import Servers

TIMEOUT_S = 3.0  # a server that is still starting lets us wait


def answers(url: str) -> bool:
    """Whether an HTTP server answers 200."""
    return _get(urllib.request.Request(url)) is not None


def is_deployed(servers: Servers, since: datetime) -> bool:
    """Whether something has polled for runs of build-llm/default since then."""
    found = _ask(servers, f"{servers.prefect_url}/api/deployments/name/build-llm/default")
    polled = None if found is None else found["last_polled"]
    return polled is not None and datetime.fromisoformat(polled) >= since


def champion(servers: Servers, name: str) -> str | None:
    """The version of model `name` that is its champion; None when there is none, or no answer."""
    path = f"api/2.0/mlflow/registered-models/alias?name={quote(name)}&alias=champion"
    found = _ask(servers, f"{servers.mlflow_url}/{path}")
    return None if found is None else str(found["model_version"]["version"])


def _ask(servers: Servers, url: str) -> Any:
    """The JSON at `url`, by our credentials; None without an answer of status 200."""
    request = urllib.request.Request(url)
    if servers.settings.password:
        pair = f"{servers.settings.username}:{servers.settings.password}".encode()
        request.add_header("Authorization", f"Basic {base64.b64encode(pair).decode()}")
    body = _get(request)
    return None if body is None else json.loads(body)


def _get(request: urllib.request.Request) -> bytes | None:
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return response.read() if response.status == HTTPStatus.OK else None
    except (OSError, HTTPException):  # refused, cut off, no answer in time, or another status
        return None
