"""Becomes a command that ends with its parent: `python -I -S tied.py PARENT COMMAND…`.

The kernel (Linux) sends it SIGTERM when the process that started it goes, however that goes: otherwise two of
them would work on one thing when another controller takes over. Only the standard library, no site-packages.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Become the command, unless the parent is gone already."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(command[0], command)  # noqa: S606 - a list, no shell; the controller made it


if __name__ == "__main__":
    main(sys.argv[1:])
