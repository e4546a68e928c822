import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import ROOT


def launch(nproc: int, folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    name = f"ranks{nproc}"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={nproc}",
    ]
    subprocess.run(
        [*command, "-m", "tests.train.toy", str(folder), name], check=True, cwd=ROOT, timeout=180
    )
    return torch.load(folder / f"{name}.pt")


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """Real gloo processes; uneven loss masks make the micro-batches weigh differently."""
    (tmp_path / "one").mkdir()
    one, one_history = launch(1, tmp_path / "one")
    (tmp_path / "two").mkdir()
    two, two_history = launch(2, tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-5, rtol=1e-4)
    for a, b in zip(one_history, two_history, strict=True):
        torch.testing.assert_close(
            torch.tensor(list(a.values())), torch.tensor(list(b.values())), atol=1e-4, rtol=1e-4
        )
