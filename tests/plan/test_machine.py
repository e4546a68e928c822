"""How much memory there is for us."""

import os
from pathlib import Path

import psutil
import pytest

from llm.plan import machine
from llm.plan.machine import control_groups, gpu_bytes, memory_bytes
from llm.plan.numbers import gib


def groups(root: Path, line: str, files: dict[str, str]) -> list[int]:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(line)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(control_groups(root))


def test_every_control_group_above_counts(tmp_path: Path) -> None:
    files = {"a/b/memory.max": "max\n", "a/memory.max": "2000\n", "memory.max": "9000\n"}
    assert groups(tmp_path, "0::/a/b\n", files) == [2000, 9000]


def test_the_first_version_of_control_groups_counts(tmp_path: Path) -> None:
    files = {"memory/x/memory.limit_in_bytes": "3000"}
    assert groups(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/x\n0::/\n", files) == [3000]


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert list(control_groups(tmp_path)) == []
    both = psutil.virtual_memory().total + psutil.swap_memory().total
    assert 0 < memory_bytes() <= both


def test_nvidias_driver_says_what_each_gpu_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 81559\necho 40960\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert gpu_bytes() == (81_559 * 2**20, 40_960 * 2**20)
    assert gib(40_960 * 2**20) == "40.0 GiB"


def test_of_another_driver_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "DRIVERS", (str(tmp_path / "kfd"),))
    assert gpu_bytes() == ()
    (tmp_path / "kfd").touch()
    assert gpu_bytes() is None
