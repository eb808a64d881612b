"""The rows of people in the files of runs: those of somebody who is forgotten are taken out."""

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

PLACES = ("loop/**/*.jsonl", "runs/**/*.jsonl")
"""Where, under the state directory, steps of runs leave rows: JSON lines that name a subject's pseudonym."""

NAMES = ("unit", "subject", "other_unit", "other_subject")
"""What rows call a subject's pseudonym: of two answers to one prompt, the worse one's is the other."""

WORKBOOK = Path(".curation") / "work.db"
"""Where a run that chooses its rows keeps what it has read, as it was recorded."""


def scrub(state_dir: Path, gone: Callable[[str], bool]) -> int:
    """Remove the lines of the pseudonyms that `gone` names from every file of runs; return how many it were.

    A file is replaced by one rename, and only if a line of it has to go. Workbooks go whole, whomever they
    are about.

    Raises:
        OSError: a file can't be read or written.
    """
    for run in state_dir.glob("loop/*"):
        remove_workbook(run)
    paths = {path for place in PLACES for path in state_dir.glob(place)}
    return sum(_scrubbed(path, gone) for path in sorted(paths) if not path.is_symlink())


def remove_workbook(run: Path) -> None:
    """Remove the workbook of the run with this folder: texts that are not masked.

    Also one that a process works with: it goes on with files that have no name any more and are gone when it
    ends, and what it proposes is only what still has its feedback. Begun again, it reads the requests anew.

    Raises:
        OSError: a file can't be removed.
    """
    path = run / WORKBOOK
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(NotADirectoryError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _scrubbed(path: Path, gone: Callable[[str], bool]) -> int:
    try:
        with path.open("rb") as lines:
            found = sum(_about(line, gone) for line in lines)
        if not found:
            return 0
        scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
        with path.open("rb") as lines:
            _write(scratch, (line for line in lines if not _about(line, gone)))
        scratch.replace(path)
    except FileNotFoundError:  # a run was tidied up meanwhile
        return 0
    return found


def _write(path: Path, lines: Iterable[bytes]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _about(line: bytes, gone: Callable[[str], bool]) -> bool:
    if not any(f'"{name}"'.encode() in line for name in NAMES):
        return False
    try:
        row = json.loads(line)
    except ValueError:  # the end of a line that a killed process was writing
        return False
    if not isinstance(row, dict):
        return False
    columns = row.get("columns")
    places = (row, columns if isinstance(columns, dict) else {})
    units = [place.get(name) for place in places for name in NAMES]
    return any(isinstance(unit, str) and gone(unit) for unit in units)
