"""Which code, params and data a run was made from, as tags."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm.config.base import read_yaml

LOCK = Path("dvc.lock")


def lineage_tags(params: Mapping[str, Any], deps: list[str]) -> dict[str, str]:
    """git commit, dirty flag, hash of the params, md5 of each dep that is another stage's out."""
    stages = read_lock(LOCK)
    outs = {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    return {
        **git_tags(written=set(outs) | {str(LOCK)}),
        "params_sha256": params_hash(params),
        **{f"dep/{dep}": outs[dep] for dep in deps if dep in outs},
    }


def params_hash(params: Mapping[str, Any]) -> str:
    """sha256 of the params as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def read_lock(path: Path) -> dict[str, Any]:
    """The stages of a dvc.lock; none when there is no such file yet."""
    return read_yaml(path).get("stages", {}) if path.exists() else {}


def out_md5s(stage: Mapping[str, Any]) -> dict[str, str]:
    """Path to md5 of a locked stage's outs."""
    return {out["path"]: out["md5"] for out in stage.get("outs", []) if "md5" in out}


def git_tags(written: set[str]) -> dict[str, str]:
    """`git_commit` and `git_dirty`; the files in `written` do not make a tree dirty.

    Those are what the pipeline itself writes and git tracks (metrics, dvc.lock). Outside
    a repository, or before its first commit, the commit is "none".
    """
    commit = _git("rev-parse", "--verify", "HEAD").strip() or "none"
    entries = _git("status", "--porcelain", "-z", "--untracked-files=all").split("\0")
    changed = {entry[3:] for entry in entries if entry}
    dirty = any(not _is_under(path, written) for path in changed)
    return {"git_commit": commit, "git_dirty": str(dirty).lower()}


def _is_under(path: str, roots: set[str]) -> bool:
    return path in roots or any(parent.as_posix() in roots for parent in Path(path).parents)


def _git(*args: str) -> str:
    """Output of a git command; empty when it fails."""
    try:
        done = subprocess.run(["git", *args], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout if done.returncode == 0 else ""
