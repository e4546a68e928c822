"""lm-eval's tasks by name: those in evals/tasks, and lm-eval's own."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import lm_eval.tasks
from datasets import disable_progress_bars
from datasets.exceptions import DatasetsError
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks import TaskManager

from evals.task_files import TASKS, made_of_heldout
from llm.errors import ConfigError, EvaluationError, UnreachableError

OWN = Path(lm_eval.tasks.__file__).parent  # lm-eval's; its own index of them takes 13 s
METRICS = ("exact_match", "acc_norm", "acc", "bits_per_byte")  # the first that a task has counts

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns about its own defaults


def find_tasks(names: Iterable[str], values: Mapping[str, Any]) -> dict[str, ConfigurableTask]:
    """The tasks with their items; `values` are what the builders of evals/items.py are given.

    ConfigError names an unknown task or one that can't be scored, EvaluationError one
    without items, UnreachableError one whose items are on a hub that does not answer.
    """
    disable_progress_bars()
    manager = TaskManager(include_path=TASKS, include_defaults=False, metadata=dict(values))
    paths = {name: _find(name, manager) for name in names}
    return {name: _load(manager, name, spec) for name, spec in paths.items()}


def metric_of(task: ConfigurableTask) -> str:
    """What a task is scored by."""
    return next(metric for metric in METRICS if metric in _metrics(task))


def item_id(name: str, number: int) -> str:
    """The id of a task's item, by its place in the task."""
    return f"{name}:{number}"


def read_items(name: str, task: ConfigurableTask) -> Iterator[tuple[str, str]]:
    """(id, text) of every item: what is asked, every option and the answer, a line each."""
    for number, row in task.doc_iterator():
        parts = [task.doc_to_text(row), task.doc_to_target(row)]
        if task.config.doc_to_choice is not None:
            parts.append(task.doc_to_choice(row))
        yield item_id(name, number), "\n".join(_texts(parts))


def _texts(value: Any) -> Iterator[str]:
    """The texts of a value; a number is the place of an option."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)


def _find(name: str, manager: TaskManager) -> str:
    """How lm-eval is asked for a task: one of ours by its name, its own by its file."""
    if name in manager.all_subtasks:
        return name
    is_named = re.compile(rf"^(task|group):\s*['\"]?{re.escape(name)}['\"]?\s*$", re.MULTILINE)
    likely = name.partition("_")[0]  # of its folder: 14,000 files take a second to read
    for path in sorted(OWN.glob("**/*.yaml"), key=lambda path: (likely not in str(path), path)):
        if found := is_named.search(path.read_text(encoding="utf-8")):
            if found[1] == "group":
                raise ConfigError(
                    f"benchmark.tasks: {name!r} is a group of lm-eval's tasks; name its tasks, "
                    f"which {path} lists"
                )
            return str(path)
    known = ", ".join(manager.all_subtasks)
    raise ConfigError(
        f"benchmark.tasks: {name!r} is neither in evals/tasks nor one of lm-eval's tasks; "
        f"in evals/tasks: {known}"
    )


def _load(manager: TaskManager, name: str, spec: str) -> ConfigurableTask:
    try:
        (task,) = manager.load(spec)["tasks"].values()
    except IndexError:  # lm-eval looks at the first item when it makes a task
        raise EvaluationError(_no_items(name)) from None
    except ConnectionError as error:
        raise UnreachableError(
            f"benchmark.tasks: the items of {name} are on the Hugging Face hub, which does not "
            f"answer ({error}); training text is searched for them, so nothing goes on without: "
            "run it again where there is a network, or take the task out"
        ) from None
    except (DatasetsError, OSError, ValueError, KeyError, ImportError) as error:
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        raise EvaluationError(
            f"benchmark.tasks: the items of {name} can't be read ({line}); correct its file or its "
            "data, or take it out"
        ) from None
    if not isinstance(task, ConfigurableTask) or not set(METRICS) & set(_metrics(task)):
        raise ConfigError(
            f"benchmark.tasks: {name} is not scored by any of {', '.join(METRICS)}, which is all "
            "that benchmark records; take it out"
        )
    if task.config.num_fewshot is None:
        task.set_config(key="num_fewshot", value=0)
    return task


def _metrics(task: ConfigurableTask) -> Mapping[str, Any]:
    return task.aggregation() or {}


def _no_items(name: str) -> str:
    if name not in made_of_heldout():
        return f"task {name} has no items; correct its file or its data, or take it out"
    return (
        f"task {name} has no items among the held-out data; take it out of benchmark.tasks, "
        "or gather Python documentation (gather.sources, kind python_docs) and hold out more "
        "of it (decontaminate.heldout_frac)"
    )
