"""What a sweep shows while it runs and afterwards: artifacts in Prefect, records in MLflow, a page.

The page and the table are `.llm/sweeps/NAME.html` and `.json` of the checkout. A server that
is away misses something, and stops nothing.
"""

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException
from prefect.settings import PREFECT_UI_URL

from flows.artifacts import INK
from flows.links import mlflow_page
from llm.errors import LLMError
from llm.files import read_json, write_json, write_text
from llm.sweep.charts import HALO, parallel_chart, seeds_chart
from llm.sweep.page import figure, render_sweep
from llm.sweep.plan import Plan
from llm.sweep.records import SweepRecords
from llm.sweep.results import RUNNING, WAITING, Row, best_row, record, table
from llm.tracking.spool import tracking_is_on, tracking_uri

FOLDER = Path(".llm") / "sweeps"
RECORD_S = 30.0  # for the last run's records to arrive at MLflow


class SweepPages:
    """Shows the rows, which the sweep changes."""

    def __init__(
        self,
        root: Path,
        name: str,
        flow_run_id: str,
        plan: Plan,
        rows: list[Row],
        skipped: list[str],
    ) -> None:
        self._name, self._plan, self._rows, self._skipped = name, plan, rows, skipped
        self._flow_run = UUID(flow_run_id)
        self._folder = root / FOLDER
        self._file = _free_name(self._folder, name, flow_run_id)
        self._flow_runs: dict[int, str] = {}  # number of the point -> id of its flow run
        self._artifacts: dict[str, UUID] = {}
        self._kept_url: str | None = None
        self._shown: list[tuple[str, str | None]] = []
        uri = tracking_uri(root / ".llm" / "tracking" / "any")
        self._records = (
            SweepRecords(name, uri, root / ".llm", mlflow_page) if tracking_is_on() else None
        )
        self._logger = get_run_logger()

    @property
    def page(self) -> Path:
        """The page's file."""
        return self._folder / f"{self._file}.html"

    def began(self, row: Row, flow_run_id: str) -> None:
        """The point has got a run."""
        self._flow_runs[row.point.number] = flow_run_id
        row.run_url = f"{(PREFECT_UI_URL.value() or '').rstrip('/')}/runs/flow-run/{flow_run_id}"

    def refresh(self) -> None:
        """Tag the MLflow runs that have appeared, as runs of this sweep, and show what has changed."""
        for row in self._untagged():
            assert self._records is not None
            self._records.tag(row, self._flow_runs[row.point.number])
        states = [(row.state, row.mlflow_run) for row in self._rows]
        if states != self._shown:
            self._shown = states
            self.show()

    def show(self) -> None:
        """Write the page and the table, and show them in Prefect."""
        kept = record(self._name, self._plan, self._rows, self._skipped)
        write_json(self._folder / f"{self._file}.json", {"flow_run": str(self._flow_run), **kept})
        write_text(self.page, render_sweep(self._name, self._plan, self._rows, self._skipped))
        done = sum(row.state not in (WAITING, RUNNING) for row in self._rows)
        text = f"{done} of {len(self._rows)} points"
        self._publish("progress", "progress", 100 * done / len(self._rows), text)
        rows = table(self._rows, self._plan)
        self._publish("table", "points", json.dumps(rows), f"Points of sweep {self._name}")
        self._publish("markdown", "sweep", self._summary(), "What came of it")

    def keep(self) -> None:
        """Tag what MLflow gets late, and keep page and table there as files of the sweep's own run."""
        if self._records is None:
            return
        deadline = time.monotonic() + RECORD_S
        while self._untagged() and time.monotonic() < deadline:
            self.refresh()
            time.sleep(1)
        self.show()
        files = [self.page, self.page.with_suffix(".json")]
        self._kept_url = self._records.keep(self._plan, self._rows, files)
        self.show()

    def _untagged(self) -> list[Row]:
        if self._records is None:
            return []
        began = self._flow_runs
        return [row for row in self._rows if row.mlflow_run is None and row.point.number in began]

    def _summary(self) -> str:
        """The best point and the links, as Markdown."""
        best = best_row(self._rows, self._plan.goal)
        lines = []
        if best is not None:
            value = figure(best.value, best.stderr)
            lines.append(f"Best: point {best.point.number}, `{best.point}`: **{value}**")
        compare = self._records.compare_url(self._rows) if self._records else None
        links = {"the page in MLflow": self._kept_url, "all runs side by side in MLflow": compare}
        lines += [f"- [{text}]({url})" for text, url in links.items() if url]
        lines.append(f"- the page on disk: `{self.page}`")
        if picture := self._picture():
            lines.append(f"\n{picture}")
        return "\n".join(lines)

    def _picture(self) -> str | None:
        """The chart of all points, as an image that the Markdown holds; None while there is nothing."""
        if not any(row.value is not None for row in self._rows):
            return None
        draw = seeds_chart if self._plan.method == "seeds" else parallel_chart
        svg = draw(self._rows, self._plan, "the points").replace("currentColor", INK)
        data = base64.b64encode(svg.replace(HALO, "none").encode()).decode()
        return f'<img alt="the points" width="480" src="data:image/svg+xml;base64,{data}">'

    def _publish(self, kind: str, key: str, data: Any, text: str) -> None:
        """Create the artifact, or replace what it shows."""
        with self._patience(), get_client(sync_client=True) as client:
            if key in self._artifacts:
                client.update_artifact(
                    self._artifacts[key], ArtifactUpdate(data=data, description=text)
                )
                return
            new = ArtifactCreate(
                type=kind, key=key, data=data, description=text, flow_run_id=self._flow_run
            )
            self._artifacts[key] = client.create_artifact(new).id

    @contextmanager
    def _patience(self) -> Iterator[None]:
        try:
            yield
        except (httpx.HTTPError, PrefectException) as error:
            self._logger.warning("not shown in Prefect: %s", error)


def _free_name(folder: Path, name: str, flow_run_id: str) -> str:
    """`name`, unless another sweep had it: names are drawn at random, and recur."""
    try:
        former = read_json(folder / f"{name}.json").get("flow_run")
    except LLMError:
        return name
    return name if former == flow_run_id else f"{name}-{flow_run_id[:8]}"
