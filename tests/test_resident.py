import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llm import resident
from llm.cluster.pool import map_shards
from tests.cluster.work import meet

MIB = 1 << 20
MEASURE = "from llm.resident import peak_mib; print(peak_mib())"


def fill(folder: Path) -> int:
    meet(folder)
    return int(np.ones(200 * MIB, np.uint8)[:: 1 << 12].sum())


def test_what_a_process_was_started_by_is_not_its_own() -> None:
    held = np.ones(300 * MIB, np.uint8)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert 5 < float(done.stdout) < 150
    assert resident.peak_mib() > held.nbytes / MIB


@pytest.mark.skipif(sys.platform != "linux", reason="workers are looked at in /proc")
def test_a_maps_workers_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(resident, "_workers_mib", [0.0])
    alone = resident.peak_mib()
    assert len(list(map_shards(fill, [tmp_path] * 4, 2))) == 4
    assert 150 < resident.peak_mib() - max(alone, 200) < 700
