"""How far a run is, as Prefect's progress artifact on the run's page."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.exceptions import PrefectException

logger = logging.getLogger(__name__)


class Progress:
    """Counts the stages that are done, and says which are at work; safe to call from any thread.

    A Prefect server that is away misses something, and stops nothing.
    """

    def __init__(self, flow_run_id: str, stages: Iterable[str], done: Iterable[str]) -> None:
        self._stages = list(stages)
        self._done = set(done)
        self._working: list[str] = []
        self._lock = threading.Lock()
        self._artifact: UUID | None = None
        self._flow_run = UUID(flow_run_id)
        self._show()

    @contextmanager
    def at_work(self, stage: str) -> Iterator[None]:
        """The stage is at work for the body's time, and done if that ends well."""
        with self._lock:
            self._working.append(stage)
            self._show()
        try:
            yield
            self._done.add(stage)
        finally:
            with self._lock:
                self._working.remove(stage)
                self._show()

    def _show(self) -> None:
        percent = 100 * len(self._done) / max(1, len(self._stages))
        text = f"{len(self._done)} of {len(self._stages)} stages"
        if self._working:
            text += f"; at work: {', '.join(self._working)}"
        try:
            with get_client(sync_client=True) as client:
                if self._artifact is None:
                    new = ArtifactCreate(
                        type="progress",
                        key="progress",
                        description=text,
                        data=percent,
                        flow_run_id=self._flow_run,
                    )
                    self._artifact = client.create_artifact(new).id
                else:
                    shown = ArtifactUpdate(description=text, data=percent)
                    client.update_artifact(self._artifact, shown)
        except (httpx.HTTPError, PrefectException) as error:
            logger.warning("the progress is not shown: %s", error)
