"""Files and folders that params name, sources and evaluations apart, and those that are not there."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from llm.config.params import TRAINING, Params

PUBLISHED = "it names a folder on this disk with a published model"


@dataclass(frozen=True)
class NamedFile:
    """What a stage reads besides what the chain makes."""

    stage: str
    key: str
    path: str
    remedy: str
    holds: str = ""  # the file that a folder must have


def named_files(params: Params) -> Iterator[NamedFile]:
    """In the order of the stages."""
    for key in ("url_blocklist", "bad_words"):
        if path := getattr(params.filter, key):
            yield NamedFile("filter", f"filter.{key}", path, "name a file, or null for none")
    lists = {
        "decontaminate.evaluation_sets": params.decontaminate.evaluation_sets,
        "instructions.extra": params.instructions.extra,
        "preferences.extra": params.preferences.extra,
    }
    for key, paths in lists.items():
        for path in paths:
            yield NamedFile(key.partition(".")[0], key, path, "name a file, or leave it out")
    for stage in ("tokenizer", *TRAINING):
        path = getattr(params, stage).init_from
        if path and not _is_made(path, params):
            holds = "tokenizer.json" if stage == "tokenizer" else "config.json"
            yield NamedFile(stage, f"{stage}.init_from", path, PUBLISHED, holds)


def missing_files(params: Params, stages: Collection[str], folder: Path) -> Iterator[str]:
    """Each that one of the stages would miss in `folder`, in a line: which key, what is not there."""
    for named in named_files(params):
        if named.stage in stages and not (folder / named.path / named.holds).is_file():
            lacks = f"has no {named.holds}" if named.holds else "is not there"
            yield f"{named.key}={named.path} {lacks}; {named.remedy}"


def _is_made(path: str, params: Params) -> bool:
    """Whether the chain makes it itself."""
    return Path(path).resolve().is_relative_to(Path(params.paths.models).resolve())
