"""torchrun, with one line for its tables: which process ended how, and what to do.

    python -m llm.torchrun STAGE WORK [torchrun's options] -m MODULE

WORK is the stage's work in progress, where its checkpoints are. Exits as the process did that
failed first: with its code, or 128 and the number of the signal that ended it. The others are
ended.
"""

import logging
import signal
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.run import parse_args, run

OWN_END = (-signal.SIGTERM, 128 + signal.SIGTERM)  # by which torchrun ends those that are left
HINTS = {"SIGKILL": ", as Linux does when memory runs out"}

logger = logging.getLogger(__name__)


def main(name: str, work: Path, arguments: list[str]) -> None:
    """Run until all processes have ended, and exit."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    for part in ("agent", "multiprocessing"):  # says the same at length
        logging.getLogger(f"torch.distributed.elastic.{part}").setLevel(logging.CRITICAL)
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        rank, failure = root_cause(error.failures)
        logger.error("error: %s: %s", name, told(rank, failure, work))
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)
    except SignalException as error:
        sys.exit(128 + error.sigval)


def root_cause(failures: dict[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The rank that failed first: one that was killed before those that lost it then."""

    def order(rank: int) -> tuple[bool, bool, int]:
        code = failures[rank].exitcode
        return code in OWN_END, code > 0, failures[rank].timestamp

    first = min(failures, key=order)
    return first, failures[first]


def told(rank: int, failure: ProcessFailure, work: Path) -> str:
    """What became of the process, and from where the next attempt goes on."""
    if failure.exitcode > 0:
        return f"process {rank} ended with exit code {failure.exitcode}; what it said is above"
    by = failure.signal_name()
    steps = sorted(path.name.removeprefix("step-") for path in work.glob("step-*"))
    start = f"after step {int(steps[-1])}, its last checkpoint" if steps else "from the beginning"
    return (
        f"process {rank} (pid {failure.pid}) was ended by {by}{HINTS.get(by, '')}; the others are "
        f"ended too. Run it again: it goes on {start}"
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
