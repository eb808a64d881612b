"""The folder of a run on this machine: what its steps get, what they leave, and who works in it.

STATE_DIR/loop/RUN/policy.json    the policy, as the steps read it
STATE_DIR/loop/RUN/run.json       what else is known of the run
STATE_DIR/loop/RUN/lock           held by whoever works; says who that is
STATE_DIR/loop/RUN/STEP.json      the result of a step; there whole or not at all
STATE_DIR/loop/RUN/STEP.log       what the step printed
STATE_DIR/loop/RUN/stopped        the start that was ended with its controller, and may begin again
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_RESULT_BYTES = 4 * 1024 * 1024
MAX_TOLD = 300


@dataclass(frozen=True, slots=True)
class Holder:
    """Who took the lock last: the run's start by its number, and the process."""

    serial: int
    pid: int
    started: int | None


class Folder:
    """One run's folder."""

    def __init__(self, root: Path, run: str) -> None:
        self.path = root / run

    def make(self) -> None:
        """Make the folder unless it is there.

        Raises:
            OSError: it can't be made.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def there(self) -> bool:
        """Whether it is on this machine."""
        return self.path.is_dir()

    def write(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a document of the run, whole or not at all.

        Raises:
            OSError: it can't be written.
        """
        scratch = self.path / f".{name}.tmp"
        try:
            descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(document, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self.path / name)
        finally:
            scratch.unlink(missing_ok=True)

    def result(self, step: str) -> dict[str, Any] | None:
        """Return a step's result, or None where there is none.

        Raises:
            ValueError: what is there is no result.
        """
        path = self.path / f"{step}.json"
        try:
            if path.stat().st_size > MAX_RESULT_BYTES:
                raise ValueError(f"{path.name} has more than {MAX_RESULT_BYTES} bytes")
            document = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(document, dict):
            raise ValueError(f"{path.name} holds no object")  # noqa: TRY004 - a ValueError like the others
        return document

    def clear(self, step: str) -> None:
        """Remove a step's result of before, so that only a new one can be found."""
        (self.path / f"{step}.json").unlink(missing_ok=True)
        (self.path / "stopped").unlink(missing_ok=True)

    def log(self, step: str) -> Path:
        """Return the file that a step prints into."""
        return self.path / f"{step}.log"

    def last_line(self, step: str) -> str | None:
        """Return the last thing that a step said."""
        try:
            with self.log(step).open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return None
        said = [line.strip() for line in lines if line.strip()]
        clean = "".join(sign for sign in said[-1] if sign.isprintable()) if said else ""
        return clean[:MAX_TOLD] or None

    @property
    def stopped(self) -> int | None:
        """The start that was ended together with its controller."""
        try:
            return int((self.path / "stopped").read_text())
        except (OSError, ValueError):
            return None

    def mark_stopped(self, serial: int) -> None:
        """Note that this start is ended with its controller."""
        (self.path / "stopped").write_text(str(serial))

    @contextlib.contextmanager
    def locked(self) -> Iterator[int | None]:
        """Hold the lock and yield its descriptor; None while somebody works.

        A process that inherits the descriptor keeps the lock when the block ends.

        Raises:
            OSError: the folder can't be written to.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield descriptor
        finally:
            os.close(descriptor)

    @property
    def busy(self) -> bool:
        """Whether somebody works in it."""
        if not (self.path / "lock").exists():
            return False
        with self.locked() as descriptor:
            return descriptor is None

    @property
    def holder(self) -> Holder | None:
        """Who took the lock last, whether it is held or not."""
        try:
            found = json.loads((self.path / "lock").read_bytes())
            return Holder(int(found["serial"]), int(found["pid"]), found["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
