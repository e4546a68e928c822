"""Cases in several processes, as torchrun starts them, but forked from one that has torch already:

python -m tests.train.forked_ranks FOLDER CASES
"""

import json
import multiprocessing
import sys
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tests.train.ranked import run_cases

PRELOADED = [
    "tests.train.ranked",
    "torch._dynamo",  # which the first step of an optimizer imports
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor.parallel",
]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    for n, cases in json.loads(sys.argv[2]).items():
        agent = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=int(n),
            run_id=f"on {n}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            start_method="forkserver",
        )
        elastic_launch(agent, run_cases)(folder, cases)
