"""Becomes the process of a step: `python -I -S launch.py LOCK_FD SERIAL NOT_AFTER COMMAND…`.

The controller takes the lock of the run's folder and hands it down; here its holder writes into it who it is,
and then becomes the command, which keeps the lock for as long as it, or anything that it forks, lives. So
there is no moment in which a step works and nobody could tell.

`SERIAL` counts the starts of the run. `NOT_AFTER` is the end of the controller's lease on the system's
monotonic clock: a controller that was frozen between its last check and this line starts nothing.

Only the standard library, and no site-packages: it starts in milliseconds.
"""

import json
import os
import sys
import time

TOO_LATE = 75
NICE = 10
"""Serving goes first: a step works with what the engines and the gateway leave over."""


def main(arguments: list[str]) -> None:
    """Become the command, or end with the code of one that may not begin."""
    fd, serial, not_after = int(arguments[0]), int(arguments[1]), float(arguments[2])
    command = arguments[3:]
    if time.monotonic() >= not_after:
        print("the controller's lease was over", file=sys.stderr)  # noqa: T201 - it becomes the step's log
        sys.exit(TOO_LATE)
    about = {"serial": serial, "pid": os.getpid(), "started": started_at(os.getpid())}
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps(about).encode(), 0)
    os.fsync(fd)
    os.set_inheritable(fd, True)
    os.nice(NICE)
    os.execv(command[0], command)  # noqa: S606 - a list, no shell; the controller made it


def started_at(pid: int) -> int | None:
    """Return when a process began, in ticks since the machine did; None when there is none.

    With its number that tells one process from a later one that got the same number.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - no pathlib
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


if __name__ == "__main__":
    main(sys.argv[1:])
