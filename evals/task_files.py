"""The YAML files in evals/tasks, read without lm-eval, which takes seconds to import."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TASKS = Path(__file__).parent / "tasks"
BUILDERS = "evals.items."  # what makes items of held-out documents


def made_of_heldout() -> set[str]:
    """Names of the tasks whose items are made of held-out documents, by evals/items.py."""
    return {
        name
        for name, task in _tasks()
        if str(getattr(task.get("custom_dataset"), "value", "")).startswith(BUILDERS)
    }


def local_files(names: Collection[str]) -> Iterator[str]:
    """The files on this machine that tasks among `names` are read from."""
    for name, task in _tasks():
        if name in names:
            files = (task.get("dataset_kwargs") or {}).get("data_files")
            yield from (str(path) for path in _flat(files) if "://" not in path)


def _tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(TASKS.glob("*.yaml")):
        task = _read(path)
        if "task" in task:
            yield str(task["task"]), task


def _read(path: Path) -> dict[str, Any]:
    """The file over what it includes; `!function` stays a name."""
    task = dict(YAML().load(path))
    included = task.pop("include", None)
    return _read(path.parent / included) | task if included else task


def _flat(files: Any) -> Iterator[str]:
    if isinstance(files, str):
        yield files
    elif files:
        for inner in files.values() if isinstance(files, dict) else files:
            yield from _flat(inner)
