"""The rows of people in the files of runs: those of somebody who is forgotten are taken out."""

import json
import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

PLACES = ("loop/**/*.jsonl", "runs/**/*.jsonl")
"""Where, under the state directory, steps of runs leave rows: JSON lines that name a subject's pseudonym."""

NAMES = ("unit", "subject")


def scrub(state_dir: Path, gone: Callable[[str], bool]) -> int:
    """Remove the lines of the pseudonyms that `gone` names from every file of runs; return how many it were.

    A file is replaced by one rename, and only if a line of it has to go.

    Raises:
        OSError: a file can't be read or written.
    """
    paths = {path for place in PLACES for path in state_dir.glob(place)}
    return sum(_scrubbed(path, gone) for path in sorted(paths) if not path.is_symlink())


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
