"""What the gates judge by: gathered from the registry, and measured by a process of its own.

    evidence = gather_evidence(registry, candidate, champion, params, run)

The candidate's held-out data comes from DVC, by the hashes in the version's own dvc.lock,
whatever lies in the checkout; both models answer the very same items (evals/promotion.py).
What cannot be had is an `error` in the evidence, which fails the gates that need it.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llm.config.base import read_yaml
from llm.config.params import Params
from llm.errors import DataError, LLMError, TrackingError
from llm.files import read_json
from llm.registry.cache import path_md5
from llm.registry.reference import refer, restore
from llm.registry.versions import LOCK_FILE, PARAMS_FILE, Registry, Version
from llm.registry.weights import model_folder

Run = Callable[[list[str]], None]  # runs a command, shows what it says, raises when it fails

MEASURED = ("size", "items", "contamination", "scores", "judge", "safety", "latency")
NOT_MEASURED = {"lineage"}
HELDOUT = {  # what the measuring reads of an out: stage -> (out's last name, below it, where to)
    "decontaminate": ("decontaminate", ("heldout/", "items.parquet", "kept/"), "decontaminate"),
    "instructions": ("instructions", ("test.jsonl",), "instructions"),
    "reward": ("reward", ("",), "reward"),
}


def gather_evidence(
    registry: Registry, candidate: Version, champion: Version | None, params: Params, run: Run
) -> dict[str, Any]:
    """Everything that the gates need; raises only when the candidate itself cannot be had."""
    work = Path(params.paths.work)
    ours = model_folder(registry, candidate, work)
    evidence: dict[str, Any] = {
        "candidate": _names(candidate),
        "champion": _names(champion) if champion else None,
        "lineage": _lineage(registry, candidate, ours),
    }
    if set(params.promote.gates) <= NOT_MEASURED:
        return evidence
    theirs, smaller_frac = None, None
    if champion is not None:
        try:
            theirs = model_folder(registry, champion, work)
            smaller_frac, evidence["heldout"] = _heldout(registry, candidate, champion)
        except LLMError as error:
            evidence["champion_error"] = str(error)
    folder = evidence_folder(candidate, champion, params)
    try:
        data = restore_heldout(registry, candidate, folder / "data")
    except LLMError as error:
        return evidence | {part: {"error": str(error)} for part in MEASURED}
    options = {"--candidate": ours, "--data": data, "--champion": theirs}
    options |= {"--champion-heldout-frac": smaller_frac}
    out = folder / ("alone.json" if theirs is None else "compared.json")
    flat = [str(part) for pair in options.items() if pair[1] is not None for part in pair]
    run([sys.executable, "-m", "evals.promotion", *flat, "--out", str(out)])
    measured = read_json(out)
    if "documents" in (contamination := measured.get("contamination", {})):
        contamination["reported"] = _contaminated(registry, candidate)
    return evidence | measured


def evidence_folder(candidate: Version, champion: Version | None, params: Params) -> Path:
    """Where the measuring keeps its work, so that one that was killed continues: by all that counts."""
    sections = params.model_dump(by_alias=True, include={"promote", "benchmark", "judge"})
    who = [(v.uri, v.run_id) if v else None for v in (candidate, champion)]
    digest = hashlib.sha256(json.dumps([who, sections], sort_keys=True).encode()).hexdigest()
    return Path(params.paths.work) / "promotion" / digest[:16]


def forget_evidence(candidate: Version, champion: Version | None, params: Params) -> None:
    """Remove the measuring's work, once its result is kept: the next promotion measures anew."""
    shutil.rmtree(evidence_folder(candidate, champion, params), ignore_errors=True)


def restore_heldout(registry: Registry, version: Version, folder: Path) -> Path:
    """The version's held-out and training data and its reward model in `folder`, by md5."""
    lock = _lock(registry, version)
    for stage, (name, parts, place) in HELDOUT.items():
        path, md5 = _out(lock, stage, name)
        whole = refer(path, md5)
        for part in parts:
            if not (wanted := whole.below(part)).files:
                raise DataError(f"{version.uri}: {path} ({md5}) has no {part}")
            restore(wanted, folder / place)
    return folder


def _lineage(registry: Registry, version: Version, weights: Path) -> dict[str, Any]:
    """What is known of how the version was made, and what is wrong with that."""
    try:
        lock = _lock(registry, version)
        roots = _params(registry, version)["paths"]
    except (LLMError, KeyError) as error:
        return {"error": str(error)}
    outs = {out["path"]: out.get("md5") for stage in lock.values() for out in stage.get("outs", [])}
    return {
        "git_commit": version.tags.get("git_commit", "none"),
        "git_dirty": version.tags.get("git_dirty", "unknown"),
        "stages": len(lock),
        "outs": len(outs),
        "problems": [
            *_commit_problems(version.tags),
            *(f"{path} has no hash" for path, md5 in outs.items() if not md5),
            *_chain_problems(lock, outs, roots),
            *_weight_problems(version.tags, outs, weights),
        ],
    }


def _commit_problems(tags: Mapping[str, str]) -> Iterator[str]:
    if tags.get("git_commit", "none") == "none":
        yield "made without a commit"
    if tags.get("git_dirty") != "false":
        yield "made with files that differ from the commit"


def _chain_problems(
    lock: Mapping[str, Any], outs: Mapping[str, str | None], roots: Mapping[str, str]
) -> Iterator[str]:
    """What a stage read and no stage of the same dvc.lock wrote, or wrote differently."""
    places = tuple(f"{root}/" for name, root in roots.items() if name != "work")
    for name, stage in lock.items():
        for dep in stage.get("deps", []):
            path, md5 = dep["path"], dep.get("md5")
            if path.startswith(places) and outs.get(path) != md5:
                yield f"{name} read another {path} than dvc.lock has"


def _weight_problems(
    tags: Mapping[str, str], outs: Mapping[str, str | None], weights: Path
) -> Iterator[str]:
    """The weights are those that the run made, whose hash is in dvc.lock."""
    model = tags.get("model")
    made = {md5 for path, md5 in outs.items() if md5 and Path(path).name == model}
    if path_md5(weights) not in made:
        yield f"the weights are not the {model} of dvc.lock"


def _lock(registry: Registry, version: Version) -> dict[str, Any]:
    """The stages of the version's dvc.lock, but for `register`, which came after it."""
    stages = read_yaml(registry.files(version, LOCK_FILE)).get("stages", {})
    return {name: stage for name, stage in stages.items() if name != "register"}


def _params(registry: Registry, version: Version) -> dict[str, Any]:
    return read_yaml(registry.files(version, PARAMS_FILE))


def _heldout(registry: Registry, candidate: Version, champion: Version) -> tuple[float | None, str]:
    """The champion's share held out, where it is less than the candidate's, and what that means."""
    ours, theirs = (_heldout_frac(registry, version) for version in (candidate, champion))
    if ours is None or theirs is None:
        return None, "a version does not say what it held out: the champion may have seen items"
    if theirs < ours:
        return theirs, (
            f"the champion held out {theirs:g} of the objects and the candidate {ours:g}; items "
            "beyond the champion's share are left out"
        )
    return None, f"the champion held out the candidate's items as well ({theirs:g} of the objects)"


def _heldout_frac(registry: Registry, version: Version) -> float | None:
    try:
        return float(_params(registry, version)["decontaminate"]["heldout_frac"])
    except (TrackingError, KeyError, TypeError, ValueError):
        return None


def _out(lock: Mapping[str, Any], stage: str, name: str) -> tuple[str, str]:
    """Path and md5 of the folder `name` that the stage wrote."""
    for out in lock.get(stage, {}).get("outs", []):
        if Path(out["path"]).name == name and "md5" in out:
            return out["path"], out["md5"]
    raise DataError(f"the version's dvc.lock has no {name} of stage {stage}")


def _contaminated(registry: Registry, version: Version) -> int | None:
    """Documents that stage decontaminate found to share text with evaluation items, and left in."""
    try:
        metrics = read_json(registry.files(version, "metrics/decontaminate.json"))
        return metrics["contaminated"] - metrics["dropped"]
    except (LLMError, KeyError, TypeError):
        return None


def _names(version: Version) -> dict[str, str]:
    return {"uri": version.uri, "model": version.tags.get("model", "unknown")}
