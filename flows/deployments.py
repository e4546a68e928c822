"""The deployments' process: first the runs that a killed one left are marked Crashed, then it serves.

What those runs had started is ended before (flows/supervisor.py), so whatever claims to be
running without a process never ends by itself.
"""

import logging
import runpy
from pathlib import Path

from flows.alive import crash_stale_runs

if __name__ == "__main__":
    logger = logging.getLogger("flows")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    crash_stale_runs(Path.cwd())
    runpy.run_module("flows.serve", run_name="__main__")
