"""A pipeline's results: params and each stage's last metrics, wherever they are kept.

The names are the same everywhere. A param is a dotted key (`dvc params diff`, MLflow's
params). A metric is STAGE/KEY: KEY is what `dvc metrics show` calls it in
metrics/STAGE.json and MLflow on the run of the stage, STAGE/KEY on the pipeline's run.
"""

import json
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from llm.config.base import parse_yaml, value_at
from llm.errors import ConfigError, DataError, LLMError
from llm.git import git
from llm.tracking.lineage import out_md5s
from llm.tracking.spool import Recorder, flatten, flatten_params

Read = Callable[[str], str | None]  # text of one of the project's files; None: there is none


logger = logging.getLogger(__name__)


class Results(NamedTuple):
    """What a pipeline was given, and what came out."""

    params: dict[str, str]  # dotted key -> value, as MLflow shows it
    metrics: dict[str, float]  # STAGE/KEY -> value


def read_results(read: Read) -> Results:
    """The results in a project's params.yaml, dvc.lock and metrics; raises DataError or ConfigError.

    Metrics of stages that have not run since their params or inputs changed are left out.
    """
    params = _yaml(read, "params.yaml")
    stages = _yaml(read, "dvc.lock").get("stages", {})
    folder = params.get("paths", {}).get("metrics", "metrics")
    metrics: dict[str, float] = {}
    for stage in current_stages(stages, params):
        path = f"{folder}/{stage}.json"
        if (text := read(path)) is not None:
            metrics |= flatten(
                {f"{stage}/{key}": value for key, value in _json(text, path).items()}
            )
    return Results(flatten_params(params), metrics)


def record_results(recorder: Recorder, folder: Path) -> None:
    """Each stage's last metrics on a pipeline's run; what cannot be read is in the log."""
    try:
        recorder.log_final(read_results(files_of(folder)).metrics)
    except (LLMError, OSError) as error:
        logger.warning("%s: no results: %s", folder, error)


def files_of(folder: Path) -> Read:
    """Reads the files of a checkout."""

    def read(path: str) -> str | None:
        file = folder / path
        return file.read_text(encoding="utf-8") if file.is_file() else None

    return read


def files_at(root: Path, revision: str) -> Read:
    """Reads the files that a git revision has."""

    def read(path: str) -> str | None:
        try:
            return git(root, "show", f"{revision}:{path}")
        except ConfigError:
            return None

    return read


def current_stages(lock: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """The stages in dvc.lock that ran on these params, and on what the stages before them wrote."""
    makers = {out: (name, md5) for name in lock for out, md5 in out_md5s(lock[name]).items()}

    @cache
    def is_current(stage: str) -> bool:
        given = lock[stage].get("params", {}).get("params.yaml", {})
        if any(value_at(params, key) != value for key, value in given.items()):
            return False
        for dep in lock[stage].get("deps", []):
            maker, md5 = makers.get(dep["path"], (None, None))
            if maker is not None and (dep.get("md5") != md5 or not is_current(maker)):
                return False
        return True

    return [stage for stage in lock if is_current(stage)]


def _yaml(read: Read, path: str) -> dict[str, Any]:
    text = read(path)
    return {} if text is None else parse_yaml(text, path)


def _json(text: str, path: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
