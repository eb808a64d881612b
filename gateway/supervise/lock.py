"""One `turnout serve` per state directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class AlreadyServing(Exception):
    """Another process serves from this state directory; the message names it."""


@contextlib.contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """Hold the state directory's lock; the system releases it with the process, however that ends.

    Raises:
        AlreadyServing: another process holds it.
        OSError: the directory can't be made or written to.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = state_dir / "serve.lock"
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise AlreadyServing(
                f"process {file.read().strip() or 'unknown'} serves from {state_dir} already; stop it, "
                "or give this one a state directory of its own: TURNOUT_STATE_DIR=…"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
