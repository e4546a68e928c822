import subprocess
import sys
import time

import numpy as np
import pytest

from llm import resident
from llm.cluster import map_shards

MIB = 1 << 20
MEASURE = "from llm.resident import peak_mib; print(peak_mib())"


def fill(size_mib: int) -> int:
    time.sleep(0.2)  # the other worker is still starting
    return int(np.ones(size_mib * MIB, np.uint8)[:: 1 << 12].sum())


def test_what_a_process_was_started_by_is_not_its_own() -> None:
    held = np.ones(300 * MIB, np.uint8)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    assert 5 < float(done.stdout) < 150
    assert resident.peak_mib() > held.nbytes / MIB


@pytest.mark.skipif(sys.platform != "linux", reason="workers are looked at in /proc")
def test_a_maps_workers_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_workers_mib", [0.0])
    alone = resident.peak_mib()
    assert len(list(map_shards(fill, [200] * 16, 2))) == 16
    assert 150 < resident.peak_mib() - max(alone, 200) < 700
