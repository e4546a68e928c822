"""The learning curves of a run that has ended, from its branch and DVC's cache."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm.config.base import parse_yaml
from llm.sweep.results import Curve
from llm.tracking.lineage import out_md5s
from llm.tracking.results import Read


def read_curves(read: Read, cache: Path) -> dict[str, Curve]:
    """Per stage the rows of plots/STAGE.csv, as far as the cache in `cache` has them."""
    plots = _mapping(read, "params.yaml").get("paths", {}).get("plots", "plots")
    found = {}
    for stage, entry in _mapping(read, "dvc.lock").get("stages", {}).items():
        if md5 := out_md5s(entry).get(f"{plots}/{stage}.csv"):
            file = cache / "files" / "md5" / md5[:2] / md5[2:]
            if file.is_file() and (curve := parse_curve(file.read_text(encoding="utf-8"))):
                found[stage] = curve
    return found


def parse_curve(text: str) -> Curve:
    """The rows of numbers of a CSV; none when it is no curve over steps."""
    rows = csv.DictReader(text.splitlines())
    if "step" not in (rows.fieldnames or ()):
        return []
    try:
        return [{key: float(value) for key, value in row.items() if value} for row in rows]
    except ValueError:
        return []


def _mapping(read: Read, path: str) -> Mapping[str, Any]:
    text = read(path)
    return {} if text is None else parse_yaml(text, path)
