"""`make down`: end what `make up` started, also when that was killed."""

import logging
import os
import signal
import sys
import time
from pathlib import Path

from flows.running import end_all, running_state
from llm.tracking.process_id import ProcessId

STOP_S = 60.0

logger = logging.getLogger(__name__)


def main() -> None:
    """Ask the running `make up` to stop, or end by ourselves what a killed one left."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    root = Path.cwd()
    state = running_state(root)
    if state is not None:
        up = ProcessId.parse(state["up"])
        os.kill(up.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while up.is_alive() and time.monotonic() < deadline:
            time.sleep(0.1)
    ended = end_all(root)
    logger.info("stopped" if state is not None or ended else "nothing runs")


if __name__ == "__main__":
    main()
