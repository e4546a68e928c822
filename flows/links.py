"""Where a person looks at a run's records: pages of MLflow's, without what its address keeps secret."""

import os
import time
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

RECORD_WAIT_S = 5.0  # the sender makes MLflow's run a few seconds after the flow run's begin
NO_SERVER = "MLflow runs without a server; `make up` starts one"


def mlflow_page(fragment: str) -> str | None:
    """The address of a page; None when the records go to a file, which has none."""
    parts = urlsplit(os.environ.get("MLFLOW_TRACKING_URI", ""))
    if parts.scheme not in ("http", "https"):
        return None
    host = parts.netloc.rpartition("@")[2]  # no user and password
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/") + "/", "", fragment))


def version_link(name: str, version: str) -> str:
    """Markdown: the page of a registered version."""
    page = mlflow_page(f"/models/{quote(name)}/versions/{version}")
    return f"[Version {version} in MLflow]({page})" if page else NO_SERVER


def report_link(run_id: str) -> str:
    """Markdown: the report that `register` keeps with its run."""
    # whichever experiment is named, MLflow shows the run
    page = mlflow_page(f"/experiments/0/runs/{run_id}/artifacts/report/report.html")
    return f"[Report]({page})" if page else "`reports/report.html`"


def records_link(spool: Path) -> str:
    """Markdown: the run in MLflow, once the sender of `spool` has made it."""
    known = spool / "pipeline.run"
    deadline = time.monotonic() + RECORD_WAIT_S
    while not known.exists() and spool.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    run_id = known.read_text(encoding="utf-8") if known.exists() else None
    page = mlflow_page(f"/runs/{run_id}" if run_id else "/experiments")
    return f"[Curves, parameters and lineage in MLflow]({page})" if page else NO_SERVER
