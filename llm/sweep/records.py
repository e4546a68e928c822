"""A sweep in MLflow: its runs are tagged as its own, and it has a run that keeps the page.

MLflow may be away: what it misses is logged, and stops nothing.
"""

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from sqlalchemy.exc import SQLAlchemyError

from llm.errors import TrackingError
from llm.sweep.plan import Plan, shown
from llm.sweep.results import Row, best_row
from llm.tracking.runs import connect, valid_name

SWEEP_TAG = "sweep"
CREDENTIALS = re.compile(r"//[^/@\s]*@")  # an address may have a user and a password

PageOf = Callable[[str], str | None]  # address of a page of MLflow's; None: it has no server

logger = logging.getLogger(__name__)


class SweepRecords:
    """The records of sweep `name` at the MLflow whose address is `uri`."""

    def __init__(self, name: str, uri: str, work: Path, page: PageOf) -> None:
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")  # seconds
        self._name, self._uri, self._work, self._page = name, uri, work, page
        self._known: tuple[MlflowClient, str] | None = None

    def tag(self, row: Row, flow_run_id: str) -> None:
        """Tag the run of a point with the sweep and the point; `row` gets its id and page."""
        with self._patience():
            client, experiment = self._connect()
            query = f"tags.prefect_flow_run = '{flow_run_id}'"
            for run in client.search_runs([experiment], query, max_results=1):
                tags = {SWEEP_TAG: self._name, "sweep_point": str(row.point.number)}
                tags |= {
                    f"sweep/{key}": shown(row.point.overrides[key]) for key in row.point.overrides
                }
                for key, value in tags.items():
                    client.set_tag(run.info.run_id, valid_name(key), value)
                row.mlflow_run = run.info.run_id
                row.mlflow_url = self._page(f"/experiments/{experiment}/runs/{run.info.run_id}")

    def keep(self, plan: Plan, rows: list[Row], files: list[Path]) -> str | None:
        """Make the sweep's own run, with the plan, the best value and the files; its page's address."""
        best = best_row(rows, plan.goal)
        with self._patience():
            client, experiment = self._connect()
            tags = {MLFLOW_RUN_NAME: self._name, SWEEP_TAG: self._name}
            run_id = client.create_run(experiment, tags=tags).info.run_id
            for key, value in plan.model_dump(mode="json").items():
                text = json.dumps(value) if isinstance(value, (dict, list)) else str(value)
                client.log_param(run_id, key, text)
            if best is not None and best.value is not None:
                client.log_metric(run_id, valid_name(plan.metric), best.value)
                client.set_tag(run_id, "best_point", str(best.point.number))
            for file in files:
                client.log_artifact(run_id, str(file))
            client.set_terminated(run_id)
            return self._page(f"/experiments/{experiment}/runs/{run_id}/artifacts")
        return None

    def compare_url(self, rows: list[Row]) -> str | None:
        """MLflow's page with the points' runs side by side."""
        runs = [row.mlflow_run for row in rows if row.mlflow_run]
        if len(runs) < 2 or self._known is None:
            return None
        chosen = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([self._known[1]]))}"
        return self._page(f"/compare-runs?{chosen}")

    def _connect(self) -> tuple[MlflowClient, str]:
        if self._known is None:
            self._known = connect(self._uri, self._work)
        return self._known

    @contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
        except (MlflowException, SQLAlchemyError, TrackingError, OSError) as error:
            said = CREDENTIALS.sub("//", str(error))
            logger.warning("sweep %s: not recorded in MLflow: %s", self._name, said)
