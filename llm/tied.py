"""A process that Linux ends with the one that started it, so that no orphan works on.

    python llm/tied.py COMMAND [ARGUMENT ...]

becomes the command, tied. Elsewhere than on Linux nothing is tied.
"""

import ctypes
import os
import platform
import signal
import sys

EXIT_TERMINATED = 128 + signal.SIGTERM
PR_SET_PDEATHSIG = 1  # prctl(2); it survives execve(2)


def tie_to_parent() -> None:
    """Have SIGTERM sent to this process when its parent dies; exits 143 if that has happened."""
    if platform.system() != "Linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call
        sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    tie_to_parent()
    os.execvp(sys.argv[1], sys.argv[1:])
