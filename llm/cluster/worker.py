"""One shard on a Dask worker, by the code and in the folder of the checkout that asks for it.

A worker outlives many runs, each in a worktree of its own with its own commit. So it computes
nothing itself: for each shard it starts

    python -m llm.cluster.worker

in that checkout, which lies on a file system that all share, and hands pickled work in and
the pickled result out. The process ends with the worker, and as soon as nobody waits for it.
"""

import multiprocessing.spawn
import os
import pickle
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

from llm.errors import LLMError
from llm.tied import tie_to_parent

WANTED_EVERY_S = 0.5


def pack(function: Callable[[Any], Any], item: Any) -> bytes:
    """Work for `run_in`: what is in `__main__` here is found there as multiprocessing finds it."""
    prepared = multiprocessing.spawn.get_preparation_data("shard")
    main_module = {key: prepared[key] for key in prepared if key.startswith("init_main_from")}
    return pickle.dumps((main_module, pickle.dumps((function, item))))


def run_in(folder: str, work: bytes) -> bytes:
    """On a worker: the pickled (result, error) of packed work, one of the two being None."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as gives:
        given.write(work)
        given.seek(0)
        command = [sys.executable, "-m", "llm.cluster.worker"]
        process = subprocess.Popen(command, cwd=folder, stdin=given, stdout=gives)
        try:
            while process.poll() is None and _is_wanted(worker, key):
                try:
                    process.wait(WANTED_EVERY_S)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()
        gives.seek(0)
        return gives.read() if process.returncode == 0 else _died(process.returncode)


def _is_wanted(worker: Any, key: Any) -> bool:
    """Whether the client still waits: it may be killed, and its next run writes the same files."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("executing", "long-running")


def _died(returncode: int) -> bytes:
    how = f"was killed by signal {-returncode}" if returncode < 0 else f"exited with {returncode}"
    error = LLMError(
        f"a shard's process {how} on a worker; see the worker's log, give it more memory"
    )
    return pickle.dumps((None, error))


def main() -> None:
    """Work from standard input, its result to standard output; prints go to the worker's log."""
    tie_to_parent()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            main_module, work = pickle.load(sys.stdin.buffer)
            multiprocessing.spawn.prepare(main_module)
            function, item = pickle.loads(work)
            answer = pickle.dumps((function(item), None))
        except Exception as error:  # whatever it is, it is raised where the shard was asked for
            error.add_note(traceback.format_exc())
            answer = _pickled(error)
        out.write(answer)


def _pickled(error: Exception) -> bytes:
    """The error, or what it says when it is of a kind that cannot travel."""
    try:
        answer = pickle.dumps((None, error))
        pickle.loads(answer)
    except Exception:  # an error's own class decides what its pickling raises
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
    return answer


if __name__ == "__main__":
    main()
