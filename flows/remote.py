"""The DVC remote that LLM_DVC_REMOTE names: every checkout of ours knows it, every run fills it.

It is written to `.dvc/config.local`, which git ignores; credentials stay in the
environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY).
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.command import run_command

REMOTE = "store"


def remote_url() -> str:
    """LLM_DVC_REMOTE; empty when runs are not pushed."""
    return os.environ.get("LLM_DVC_REMOTE", "").strip()


def configure_remote(folder: Path) -> None:
    """Make it the default remote of the DVC project in `folder`; nothing without one."""
    if not remote_url() or not (folder / ".dvc").is_dir():
        return
    from dvc.repo import Repo  # half a second of imports, which `make up` else does without

    with Repo(str(folder)) as repo:
        config: Any = repo.config  # DVC has no types for it
        with config.edit("local") as local:
            remote = local.setdefault("remote", {}).setdefault(REMOTE, {})
            remote["url"] = remote_url()
            remote.pop("endpointurl", None)
            if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
                remote["endpointurl"] = endpoint
            local["core"]["remote"] = REMOTE


def push_results(folder: Path, on_line: Callable[[str], None]) -> bool:
    """Push what the checkout's dvc.lock names, and its run cache; False without a remote.

    Raises CommandError when the remote refuses: the outs are in the shared cache then,
    and pushing again sends only what is missing.
    """
    if not remote_url():
        return False
    configure_remote(folder)
    command = [sys.executable, "-m", "dvc", "push", "--run-cache", "--remote", REMOTE]
    run_command(command, folder, {}, on_line)
    return True
