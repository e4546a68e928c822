"""Files that params name and a run's worktree lacks, since it has what is committed and no more."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from evals.task_files import local_files
from llm.config.params import Params
from llm.corpus.sources.reading import local_paths
from llm.errors import ConfigError
from llm.plan.inputs import named_files


def check_inputs(root: Path, folder: Path, params: Params, stages: Iterable[str]) -> None:
    """ConfigError lists every relative path that one of the stages reads and the worktree lacks."""
    lines = [
        _say(key, path, root)
        for stage, key, path in _named_paths(params)
        if stage in stages and not Path(path).is_absolute() and not (folder / path).exists()
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def _named_paths(params: Params) -> Iterator[tuple[str, str, str]]:
    """Stage, key and path of every file or folder that params name."""
    for source in params.gather.sources:
        for path in local_paths(source):
            yield "gather", f"gather.sources {source.name!r}", path
    for path in local_files(params.benchmark.tasks):
        yield "decontaminate", "evals/tasks", path
    for named in named_files(params):
        yield named.stage, named.key, named.path


def _say(key: str, path: str, root: Path) -> str:
    if not (root / path).exists():
        return f"{key}: {path} does not exist"
    return (
        f"{key}: {path} is not committed, and a run builds what is committed; "
        f"`git add` or `dvc add` it and commit, or name it by its absolute path, {root / path}"
    )
