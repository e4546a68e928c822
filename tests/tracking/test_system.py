"""What is sampled of the machine has MLflow's names and units."""

import time
from pathlib import Path

import pytest

from llm.tracking import system
from llm.tracking.system import gpu_sample, system_metrics, system_sample
from tests.waiting import PATIENCE_S, wait_for

SMI = """#!/bin/sh
[ "$1" = --query-gpu=index,utilization.gpu,memory.used,memory.total,power.draw ] || exit 9
echo "0, 87, 1000, 4000, 301.50"
echo "1, 0, 0, 4000, [N/A]"
"""


def put(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An nvidia-smi of our own, the only program there is."""
    (folder / "nvidia-smi").write_text(script)
    (folder / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(system, "INTERVAL_S", PATIENCE_S)  # it may take so long


def test_each_gpu_tells_its_load_memory_and_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, SMI, monkeypatch)
    assert gpu_sample() == {
        "system/gpu_0_utilization_percentage": 87.0,
        "system/gpu_0_memory_usage_megabytes": pytest.approx(1048.576),
        "system/gpu_0_memory_usage_percentage": 25.0,
        "system/gpu_0_power_usage_watts": 301.5,
        "system/gpu_1_utilization_percentage": 0.0,
        "system/gpu_1_memory_usage_megabytes": 0.0,
        "system/gpu_1_memory_usage_percentage": 0.0,
    }


@pytest.mark.parametrize("script", [None, "#!/bin/sh\nexit 9\n"], ids=["none", "no driver"])
def test_without_a_gpu_there_is_nothing_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        put(tmp_path, script, monkeypatch)
    assert gpu_sample() == {}


def test_samples_are_taken_until_the_body_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "INTERVAL_S", 0.01)
    seen: list[tuple[int, dict[str, float]]] = []
    with system_metrics(lambda step, values: seen.append((step, dict(values)))):
        wait_for(lambda: len(seen) >= 3, every_s=0.01)
    count = len(seen)
    time.sleep(0.05)
    assert len(seen) == count >= 3
    assert [step for step, _ in seen] == list(range(count))
    assert system_sample().keys() <= seen[0][1].keys()
    assert all(value > 0 for key, value in seen[0][1].items() if key.endswith("megabytes"))
