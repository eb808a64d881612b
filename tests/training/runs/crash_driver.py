"""A `turnout train` that dies on purpose: `python -m tests.training.runs.crash_driver WHERE ARGUMENTS…`.

`WHERE` is `STAGE` or `STAGE:N`: the N-th time the process comes to that stage it is killed, as by `kill -9`,
between two lines. `full` makes every file above a few kilobytes fail as on a full disk.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

SMALL_BYTES = 40_000
"""Enough for states and rows; not for a checkpoint."""


def die() -> None:
    """End this process without any clean-up."""
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, act: Callable[[], None], *, at: int = 1) -> None:
    """Act before the `at`-th call of a function."""
    real, calls = getattr(owner, name), [0]

    def call(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            act()
        return real(*args, **kwargs)

    setattr(owner, name, call)


def arm(where: str) -> None:
    """Prepare the death at a stage."""
    from training import job
    from training.fitting import checkpoints
    from training.runs import folder, session
    from training.runs.recorder import Recorder

    stage, _, number = where.partition(":")
    at = int(number or 1)
    match stage:
        case "prepared":
            before(folder.Run, "write", die, at=at)
        case "step":
            before(Recorder, "on_step", die, at=at)
        case "checkpoint":
            before(checkpoints, "_put", die, at=at)
        case "trained":
            before(job, "appearing", die)
        case "judged":
            before(job.Maker, "probe", die)
        case "probed":
            before(job, "card", die)
        case "publishing":
            before(session, "publish", die)
        case "published":
            before(session.Session, "_put_out", die)
        case "finished":
            before(folder.Run, "tidy", die)
        case "trial":
            from training.runs import search

            before(search.TrialListener, "on_validation", die, at=at)
        case "interrupt":
            before(Recorder, "on_step", lambda: os.kill(os.getpid(), signal.SIGINT), at=at)
        case "full":
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))
        case "none":
            pass
        case _:
            raise ValueError(f"there is no stage {stage!r}")


def main() -> None:
    """Train with the arguments after the first."""
    from training.cli import app

    arm(sys.argv[1])
    app(sys.argv[2:], prog_name="turnout train")


if __name__ == "__main__":
    main()
