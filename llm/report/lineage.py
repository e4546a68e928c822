"""From what, by which code, the run's results were made."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm.config.paths import Paths
from llm.files import fingerprint
from llm.report.drawing import draw, lineage_graph
from llm.report.facts import STAGES, TRAINED
from llm.tracking.lineage import git_tags, out_md5s, read_lock

PACKAGES = ("torch", "tokenizers", "numpy", "pyarrow", "dvc", "mlflow", "prefect", "lm-eval")
MODEL_OF = {stage: "base" if stage == "pretrain" else stage for stage in TRAINED}


def stage_lineage(paths: Paths, root: Path) -> list[dict[str, Any]]:
    """Per stage: its outs with their hashes, the paths it read, and its params.

    The hashes are DVC's md5, from dvc.lock; for a stage that is not locked yet (run
    without DVC), sha256 of what it wrote, no paths and no params.
    """
    lock = read_lock(root / "dvc.lock")
    rows = []
    for stage in STAGES:
        locked = lock.get(stage)
        outs = out_md5s(locked) if locked else _fingerprints(paths, stage)
        params = (locked or {}).get("params", {}).get("params.yaml", {})
        deps = [dep["path"] for dep in (locked or {}).get("deps", [])]
        rows.append({"stage": stage, "outs": outs, "deps": deps, "params": _flat(params)})
    return rows


def lineage_picture(
    rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]
) -> str:
    """The rows as a drawing of what was made from what; empty when DVC has locked no stage."""
    outs = {row["stage"]: row["outs"] for row in rows}
    nodes, edges = lineage_graph(outs, {row["stage"]: row["deps"] for row in rows}, metrics)
    if not any(row["deps"] for row in rows):
        return ""
    said = "; ".join(f"{node.name} {node.figures}".strip() for node in nodes)
    return draw(nodes, edges, f"Graph of what was made from what: {said}.")


def code_lineage(paths: Paths) -> dict[str, str]:
    """The commit, and the versions of what computes.

    What the pipeline itself writes beside git's files is no local change.
    """
    tags = git_tags({"dvc.lock", paths.metrics, paths.timings, paths.plots, paths.reports})
    commit = tags["git_commit"] + (" with local changes" if tags["git_dirty"] == "true" else "")
    return {
        "git commit": commit,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPU cores",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _fingerprints(paths: Paths, stage: str) -> dict[str, str]:
    model = MODEL_OF.get(stage)
    path = paths.model(model) if model else paths.stage(stage)
    return {str(path): f"sha256:{fingerprint(path)}"} if path.exists() else {}


def _flat(params: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Params as dotted keys; `paths` is left out, it is the same for every stage."""
    if not isinstance(params, dict):
        return [(prefix.rstrip("."), str(params))]
    return [
        item
        for key, value in params.items()
        if prefix or key != "paths"
        for item in _flat(value, f"{prefix}{key}.")
    ]
