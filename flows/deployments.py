"""The deployments' process: it serves, and marks runs Crashed whose process was killed.

First those that a killed one of these left, whose processes are ended before
(flows/supervisor.py), then any as it happens: what claims to be running without a process
never ends by itself.
"""

import logging
import runpy
from pathlib import Path

from flows.alive import crash_stale_runs, watch_for_killed_runs

if __name__ == "__main__":
    logger = logging.getLogger("flows")
    logger.addHandler(logging.StreamHandler())
    logger.setLevel(logging.INFO)
    crash_stale_runs(Path.cwd())
    watch_for_killed_runs(Path.cwd())
    runpy.run_module("flows.serve", run_name="__main__")
