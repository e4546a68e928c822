"""Stage register: the better of sft and dpo becomes a version in MLflow's registry.

Reads    models/{sft,dpo}, metrics of every stage, data/benchmark, reports; for lineage dvc.lock,
         git, params.yaml; DVC's cache, when register.weights is `reference`
Writes   data/register/version.json: name, version, alias, run_id, model, uri, tags
Metrics  score: the chosen model's; sft, dpo: each one's

The choice is the higher `select_by` (sft on a tie); a score that is missing is an error,
never a guess. The new version is loaded and must answer before it gets the alias. This
stage acts on the world: every run makes a new version, so version.json is never the same
bytes twice.
"""

import math
from pathlib import Path
from typing import Any

from llm.config.base import read_yaml
from llm.config.registry import RegisterConfig
from llm.errors import DataError
from llm.files import read_json, write_dir, write_json
from llm.process import PARAMS, Context, main
from llm.tracking.lineage import LOCK, git_tags, out_md5s, params_hash, read_lock
from llm.tracking.spool import flatten

CANDIDATES = ("sft", "dpo")


def run(ctx: Context, *, register: RegisterConfig) -> dict[str, Any]:
    """Choose, store, check and name the version."""
    scores = read_scores(ctx.paths.metric("benchmark"), register.select_by)
    chosen = max(CANDIDATES, key=lambda name: scores[name])  # the first of equals
    tags = version_tags(chosen, read_json(ctx.paths.metric("benchmark"))[chosen])
    tags["weights"] = register.weights
    from llm.registry.entry import register_version  # seconds: it brings MLflow and torch

    entry = register_version(ctx, register, chosen, tags)
    with write_dir(ctx.out) as out:
        write_json(out / "version.json", entry)
    return {"score": scores[chosen], **scores}


def read_scores(path: Path, key: str) -> dict[str, float]:
    """`key` of each candidate in the benchmark's metrics; DataError names what is missing."""
    benchmark = read_json(path)
    scores = {}
    for name in CANDIDATES:
        values = flatten(benchmark.get(name, {}))
        if key not in values:
            known = ", ".join(values) or "none"
            raise DataError(
                f"{path} has no number {name}.{key}, by which register.select_by chooses; "
                f"{name} has {known}"
            )
        if not math.isfinite(values[key]):
            raise DataError(f"{path}: {name}.{key}={values[key]} is not a number to choose by")
        scores[name] = values[key]
    return scores


def version_tags(chosen: str, scores: dict[str, Any]) -> dict[str, str]:
    """From which code, params and data the version was made, and how it scored.

    A params.yaml that differs from the commit's does not make it dirty: it is kept as it is.
    """
    stages = read_lock(LOCK)
    written = {path for stage in stages.values() for path in out_md5s(stage)}
    stages.pop("register", None)  # what it wrote for the version before is no part of this one
    outs = {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    return {
        "model": chosen,
        **git_tags(written={*written, str(LOCK), str(PARAMS)}),
        "params_sha256": params_hash(read_yaml(PARAMS)),
        **{f"metric/{name}": repr(value) for name, value in flatten(scores).items()},
        **{f"out/{path}": md5 for path, md5 in outs.items()},
    }


if __name__ == "__main__":
    main("register", run, register=RegisterConfig)
