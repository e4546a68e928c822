"""How a version was made, as it keeps it: outs by md5, params, metrics, packages, commit.

What versions of an earlier stage `register` lack is filled in only from what proves itself:
the outs from the version's tags, the params from its commit when they have the hash that
it names.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from llm.config.base import read_yaml
from llm.files import read_json
from llm.git import blobs, git, has_commit, tree
from llm.registry.cache import listing_md5
from llm.registry.packages import read_packages
from llm.registry.versions import LOCK_FILE, PACKAGES_FILE, PARAMS_FILE, Registry, Version
from llm.tracking.lineage import out_md5s, params_hash, read_lock

OUT_TAG = "out/"
METRICS = "metrics/"
REGISTER = "register"  # the last stage; what it writes is no part of the version


@dataclass(frozen=True)
class Record:
    """One version's, or the checkout's; what it does not keep is empty."""

    name: str  # models:/llm/3, or "this checkout"
    outs: Mapping[str, str]  # path to DVC's md5
    stages: Mapping[str, Any]  # of its dvc.lock, but for register
    params: Mapping[str, Any]
    metrics: Mapping[str, Any]  # by stage
    packages: Mapping[str, str]
    code: Mapping[str, str]  # path to md5 of the files that its stages depended on
    commit: str  # "none" outside a git repository
    dirty: bool  # made from files that are not in the commit

    def folder_of(self, stage: str) -> str | None:
        """The path of the out that is named like its stage, e.g. data/gather."""
        found = (path for path in self.outs if Path(path).name == stage)
        return next(found, None)

    def value(self, *keys: str) -> Any:
        """A value of params.yaml; None when it is not known."""
        found: Any = self.params
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found


def read_record(registry: Registry, version: Version, root: Path) -> Record:
    """What the version keeps, and what its tags and its commit in the repository `root` say."""
    kept = registry.list_files(version)
    stages = {}
    if LOCK_FILE in kept:
        stages = read_lock(registry.files(version, LOCK_FILE))
        stages.pop(REGISTER, None)
    outs = tagged_outs(version)
    outs |= {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    metrics = (
        registry.files(version, METRICS) if any(each.startswith(METRICS) for each in kept) else None
    )
    packages = registry.files(version, PACKAGES_FILE) if PACKAGES_FILE in kept else None
    commit = version.tags.get("git_commit", "none")
    dirty = version.tags.get("git_dirty", "false") == "true"
    return Record(
        name=version.uri,
        outs=outs,
        stages=stages,
        params=_params(registry, version, PARAMS_FILE in kept, root),
        metrics={path.stem: read_json(path) for path in metrics.glob("*.json")} if metrics else {},
        packages=read_packages(packages) if packages else {},
        code=locked_code(stages) if stages or dirty else _committed_code(root, commit),
        commit=commit,
        dirty=dirty,
    )


def tagged_outs(version: Version) -> dict[str, str]:
    """Path to md5 of the outs that the version's tags name, but for what register wrote before."""
    tagged = {
        key.removeprefix(OUT_TAG): md5
        for key, md5 in version.tags.items()
        if key.startswith(OUT_TAG)
    }
    return {path: md5 for path, md5 in tagged.items() if Path(path).stem != REGISTER}


def locked_code(stages: Mapping[str, Any]) -> dict[str, str]:
    """md5 of each dep of a dvc.lock's stages that is not one of their outs."""
    outs = {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    return {
        dep["path"]: dep["md5"]
        for stage in stages.values()
        for dep in stage.get("deps", [])
        if "md5" in dep and not _is_below(dep["path"], outs)
    }


def committed_params(root: Path, commit: str) -> dict[str, Any]:
    """params.yaml of a commit; empty when the commit or the file is not there, or is not YAML."""
    if commit == "none" or not has_commit(root, commit):
        return {}
    found = tree(root, commit).get("params.yaml")
    if found is None:
        return {}
    try:
        return YAML(typ="safe").load(blobs(root, [found])[found]) or {}
    except YAMLError:
        return {}


def changed_code(record: Record, root: Path) -> list[str] | None:
    """The deps of the version's stages that its commit has not got as they were.

    With none, the commit and the version's params are all that made it, dirty or not.
    None when there is no telling: no dvc.lock, or no such commit here.
    """
    if not record.stages or record.commit == "none" or not has_commit(root, record.commit):
        return None
    md5s = _committed_code(root, record.commit)
    return sorted(path for path, md5 in record.code.items() if _md5_of(path, md5s) != md5)


def git_description(root: Path, commit: str) -> dict[str, str] | None:
    """Subject, date and author of a commit; None when it is not in this repository."""
    if commit == "none" or not has_commit(root, commit):
        return None
    subject, date, author = git(root, "log", "-1", "--format=%s%x00%cI%x00%an", commit).split("\0")
    return {"subject": subject, "date": date, "author": author}


def _committed_code(root: Path, commit: str) -> dict[str, str]:
    """Path to md5 of a commit's files; empty when it is not here."""
    if commit == "none" or not has_commit(root, commit):
        return {}
    files = tree(root, commit)
    content = blobs(root, files.values())
    return {path: hashlib.md5(content[files[path]]).hexdigest() for path in files}


def _params(registry: Registry, version: Version, kept: bool, root: Path) -> dict[str, Any]:
    if kept:
        return read_yaml(registry.files(version, PARAMS_FILE))
    params = committed_params(root, version.tags.get("git_commit", "none"))
    return params if params_hash(params) == version.tags.get("params_sha256") else {}


def _is_below(path: str, roots: Mapping[str, str]) -> bool:
    return path in roots or any(parent.as_posix() in roots for parent in Path(path).parents)


def _md5_of(path: str, md5s: Mapping[str, str]) -> str | None:
    """The md5 of a file, or of the files below a folder, among those given."""
    if path in md5s:
        return md5s[path]
    start = f"{path}/"
    below = {file.removeprefix(start): md5s[file] for file in md5s if file.startswith(start)}
    return listing_md5(below) if below else None
