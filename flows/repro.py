"""`dvc repro` of one stage as a process; runs with the same content of a stage compute it once.

    python -m flows.repro STAGE [--force] [--no-commit]

in a DVC project's root. Before the stage runs, its process holds a lock named by what it is made
from (DVC's own key: command, params, and the hashes of its deps): the second of two runs
waits for the first, and then finds the result in DVC's run cache.

Exits with the code of the stage's command, or 128 and the signal that ended it. `dvc repro` itself
says that only in a message, and exits with 255 whatever happened.

Environment
    LLM_STAGE_LOCKS    folder of the locks, which the runs share
    LLM_RUN_NAME       what the others say that they wait for
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import Stage
from dvc.stage.cache import _can_hash, _get_stage_hash
from dvc.stage.exceptions import StageCmdFailedError

from flows.disk import full_disk
from llm.process import exclusive

DVC_FAILED = 255  # as `dvc` itself exits
SOMEBODY = "another run"


def main() -> None:
    """Reproduce the stage that the command line names."""
    parser = argparse.ArgumentParser(description="dvc repro --single-item, one run at a time")
    parser.add_argument("stage")
    parser.add_argument("--force", action="store_true", help="make it even if nothing has changed")
    parser.add_argument("--no-commit", action="store_true", help="leave the cache as it is")
    given = parser.parse_args()
    try:
        with Repo(_wait_for_lock=True) as repo:
            (stage,) = repo.stage.collect(given.stage)
            with _its_turn(stage):
                repo.reproduce(
                    given.stage, single_item=True, force=given.force, no_commit=given.no_commit
                )
    except Exception as error:
        if full := full_disk(error):
            sys.exit(f"error: {given.stage}: {full}")
        if not isinstance(error, DvcException):
            raise
        _say_all(error)
        sys.exit(exit_code(error))


def exit_code(error: BaseException) -> int:
    """The exit code of the command whose failure is among the causes of a DVC error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, StageCmdFailedError):
            ended = re.search(r", exited with (-?\d+)$", str(cause))
            code = int(ended[1]) if ended else DVC_FAILED
            return code if code >= 0 else 128 - code
        cause = cause.__cause__
    return DVC_FAILED


@contextmanager
def _its_turn(stage: Stage) -> Iterator[None]:
    """Wait until no other run makes the same; at once when the stage cannot be cached."""
    folder = os.environ.get("LLM_STAGE_LOCKS")
    key = _content_key(stage) if folder else None
    if not folder or key is None:
        yield
        return
    lock, holder = Path(folder) / f"{key}.lock", Path(folder) / f"{key}.run"

    def say_whom() -> None:
        try:
            run = holder.read_text(encoding="utf-8")
        except FileNotFoundError:  # not written yet, or it ends at this moment
            run = SOMEBODY
        print(f"waits: {run} makes the same at this moment", flush=True)  # noqa: T201

    with exclusive(lock, on_wait=say_whom):
        holder.write_text(os.environ.get("LLM_RUN_NAME", SOMEBODY), encoding="utf-8")
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


def _content_key(stage: Stage) -> str | None:
    """What the stage's result is filed under in DVC's run cache; None when it is not cached."""
    stage.save_deps(allow_missing=True)
    return _get_stage_hash(stage) if _can_hash(stage) else None


def _say_all(error: BaseException) -> None:
    """The error and its causes, in one line as `dvc` prints them."""
    parts: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        parts.append(str(cause))
        cause = cause.__cause__
    print(f"ERROR: {': '.join(parts)}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
