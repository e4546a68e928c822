"""A run on a full disk fails with one message that says so, and succeeds once there is space."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient

from tests.flows.client import finished, start, text_of

BYTES = 200_000_000  # which hold the text that params ask for, as the pre-flight counts it


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("place", [".dvc/cache", ".llm/worktrees"])
def test_a_full_disk_is_one_message_and_with_space_the_same_run_succeeds(
    served: tuple[Path, SyncPrefectClient], place: str
) -> None:
    folder, client = served
    asked = {"overrides": {"pretrain.seed": 81}, "upto": "corpus"}
    with _small_disk(folder / place):
        filler = folder / place / "filler"
        with contextlib.suppress(OSError):  # there is no space left
            filler.write_bytes(bytes(BYTES))
        full = finished(client, start(client, asked))
        filler.unlink()
        again = finished(client, start(client, asked))
    assert full.state_name == "Failed"
    assert full.state is not None
    assert str(full.state.message).count("the disk is full") == 1
    assert "free some space and run it again" in str(full.state.message)
    assert "Traceback" not in text_of(client, full)
    assert again.state_name == "Completed", text_of(client, again)


@contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    """A file system of BYTES at `folder`, which is as it was afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BYTES}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
