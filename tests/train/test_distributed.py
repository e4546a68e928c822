import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT


def launch(
    nproc: int, folder: Path, changes: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    name = f"ranks{nproc}"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={nproc}",
    ]
    subprocess.run(
        [*command, "-m", "tests.train.toy", str(folder), name, json.dumps(changes)],
        check=True,
        cwd=ROOT,
        timeout=180,
    )
    return torch.load(folder / f"{name}.pt")


@pytest.mark.parametrize(
    "changes",
    [
        {"optim": {}, "parts": {}},
        {"optim": {"optimizer": "muon"}, "parts": {"dropout": 0.2}},
    ],
    ids=["adamw", "muon with dropout"],
)
def test_two_ranks_equal_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Real gloo processes; uneven loss masks make the micro-batches weigh differently."""
    (tmp_path / "one").mkdir()
    one, one_history = launch(1, tmp_path / "one", changes)
    (tmp_path / "two").mkdir()
    two, two_history = launch(2, tmp_path / "two", changes)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-5, rtol=1e-4)
    for a, b in zip(one_history, two_history, strict=True):
        torch.testing.assert_close(
            torch.tensor(list(a.values())), torch.tensor(list(b.values())), atol=1e-4, rtol=1e-4
        )
