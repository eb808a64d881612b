"""A process that runs `turnout train` again and again, each time in a child that may die on purpose.

It reads a JSON object a line: `where`, `arguments`, `environment` and `output` (a path); answers each with
the child's exit code. The libraries are imported once, since that takes longer than the training.

`where` is `STAGE` or `STAGE:N`: the N-th time the child comes to that stage it is killed, as by `kill -9`,
between two lines. `interrupt` is Ctrl-C there, and `full` lets every file fail above a few kilobytes.
"""

import json
import os
import resource
import signal
import sys
import traceback
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
    "told": ("training.job:Maker", "trained", die),
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


def train(where: str, arguments: list[str]) -> int:
    """Run the command line and return its exit code."""
    from training.cli import app

    arm(where)
    try:
        app(arguments, prog_name="turnout train")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def child(order: dict[str, Any]) -> int:
    """Train in a process of its own and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.environ.update(order["environment"])
            for descriptor, name in ((1, "out"), (2, "err")):
                os.dup2(
                    os.open(f"{order['output']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor
                )
            # What was made of the parent's streams is not the child's.
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
            code = train(order["where"], order["arguments"])
            sys.stdout.flush()
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Import what training imports, and answer one order after the other."""
    for module in ("training.fitting.fit", "training.evaluation.held_out", "training.runs.callback", "peft"):
        import_module(module)
    for line in sys.stdin:
        sys.stdout.write(f"{child(json.loads(line))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
