"""A `turnout train` that dies on purpose: `python -m tests.training.runs.crash_driver WHERE ARGUMENTS…`.

`WHERE` is `STAGE` or `STAGE:N`: the N-th time the process comes to that stage it is killed, as by `kill -9`,
between two lines. `interrupt` is Ctrl-C there, and `full` lets every file fail above a few kilobytes.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from importlib import import_module
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


def interrupt() -> None:
    """Be asked to end, as by Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


def starve() -> None:
    """Let no file grow any more, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_BYTES, SMALL_BYTES))


PLACES: dict[str, tuple[str, str, Callable[[], None]]] = {
    "prepared": ("training.runs.folder:Run", "write", die),
    "step": ("training.runs.recorder:Recorder", "on_step", die),
    "checkpoint": ("training.fitting.checkpoints:", "_put", die),
    "trained": ("training.job:", "appearing", die),
    "judged": ("training.job:Maker", "probe", die),
    "probed": ("training.job:", "card", die),
    "publishing": ("training.runs.session:", "publish", die),
    "published": ("training.runs.session:Session", "_put_out", die),
    "finished": ("training.runs.folder:Run", "tidy", die),
    "trial": ("training.runs.search:TrialListener", "on_validation", die),
    "interrupt": ("training.runs.recorder:Recorder", "on_step", interrupt),
    "full": ("training.job:Maker", "train", starve),
}
"""Stages, by the function before which it happens."""


def arm(where: str) -> None:
    """Prepare the death at a stage; `none` is no stage."""
    stage, _, number = where.partition(":")
    if stage == "none":
        return
    place, name, act = PLACES[stage]
    module, _, owner = place.partition(":")
    found = import_module(module)
    before(getattr(found, owner) if owner else found, name, act, at=int(number or 1))


def main() -> None:
    """Train with the arguments after the first."""
    from training.cli import app

    arm(sys.argv[1])
    app(sys.argv[2:], prog_name="turnout train")


if __name__ == "__main__":
    main()
