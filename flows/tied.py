"""Become a command that Linux ends with the process that started it.

    python flows/tied.py COMMAND [ARGUMENT ...]

A flow that is killed outright cannot end the stages that it started; so they ask to be
ended with it. Elsewhere than on Linux this is only the command.
"""

import ctypes
import os
import platform
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); it survives execve(2)


def main(command: list[str]) -> None:
    """Replace this process by the command."""
    if platform.system() == "Linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the call
            sys.exit(128 + signal.SIGTERM)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
