"""The rows that a candidate is judged by: golden, old and new, and what each row says of itself."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.reading import read_dataset
from training.data.rows import DataError, Example
from training.evaluation.slices import MAX_VALUES
from training.evaluation.sources import examples_in
from training.gate.decide import GOLDEN, NEW, OLD

SETS = (GOLDEN, OLD, NEW)
SUBJECT, UNIT, TRUST = "subject", "unit", "trusted"
OWN = frozenset(
    {"row_id", "request_id", "run", "at", "by", "weight", "kind", "version", SUBJECT, UNIT, TRUST}
)
"""Fields that tell rows apart or say how they came about: none of them makes slices.

`kind` least of all: of liked answers the champion gave each one, so that no candidate can be better on them.
"""

MAX_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class Sets:
    """The rows of each set; a set may be empty. `notes` say what was left out."""

    rows: Mapping[str, tuple[Example, ...]]
    notes: tuple[str, ...]

    def all(self) -> tuple[Example, ...]:
        """Return every row once, in whatever sets it is."""
        return _once(*(self.rows[name] for name in SETS))

    def asked(self) -> dict[str, tuple[Example, ...]]:
        """Return the rows of each question: the new ones, and the old ones with the golden ones."""
        found = {OLD: _once(self.rows[OLD], self.rows[GOLDEN]), NEW: self.rows[NEW]}
        return {name: rows for name, rows in found.items() if rows}


def identity(row: Example) -> tuple[str, str]:
    """Return what tells judged rows apart: the prompt and the wanted answer."""
    return row.key, row.completion


def read_sets(paths: Mapping[str, Path], *, trained: Path | None) -> Sets:
    """Read the sets. `trained` has the rows that the candidate learned from.

    Raises:
        DataError: a file is missing or faulty, all are empty, or a judged row was trained on.
        OSError: a file can't be read.
    """
    notes: list[str] = []
    rows = {name: _read(paths[name], name, notes) for name in SETS}
    if not any(rows.values()):
        raise DataError(f"{', '.join(str(paths[name]) for name in SETS)} hold no rows to judge by")
    _refuse_trained(rows, trained)
    return Sets(rows, tuple(notes))


def columns_of(rows: Sequence[Example]) -> list[str]:
    """Return the fields whose values make slices: at least two, at most `MAX_VALUES`, and no row's own."""
    values: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.columns.items():
            if name not in OWN:
                values.setdefault(name, Counter())[value] += 1
    kept = [
        name
        for name, found in values.items()
        if len(found) <= MAX_VALUES and (len(found) > 1 or found.total() < len(rows))
    ]
    return sorted(kept)[:MAX_COLUMNS]


def units_of(rows: Sequence[Example]) -> list[object]:
    """Return what each row is drawn with: its subject, or itself where nobody said whose it is.

    Curation calls it `subject`, `turnout data` `unit`.
    """
    return [row.columns.get(SUBJECT) or row.columns.get(UNIT) or place for place, row in enumerate(rows)]


def trusted(row: Example) -> bool:
    """Whether a row comes from a trusted source."""
    return row.columns.get(TRUST, "").lower() in ("true", "1")


def _read(path: Path, name: str, notes: list[str]) -> tuple[Example, ...]:
    if not path.is_file():
        raise DataError(f"--{name} {path} is not a file; an empty one says that there are no such rows")
    if not path.read_bytes().strip():
        return ()
    found = read_dataset(str(path)).rows
    once = _once(examples_in(found))
    if len(once) < len(found):
        notes.append(
            f"{len(found) - len(once)} of {len(found)} {name} rows have no wanted answer or are there twice, "
            "and were left out"
        )
    return once


def _once(*groups: Sequence[Example]) -> tuple[Example, ...]:
    found: dict[tuple[str, str], Example] = {}
    for rows in groups:
        for row in rows:
            found.setdefault(identity(row), row)
    return tuple(found.values())


def _refuse_trained(rows: Mapping[str, Sequence[Example]], trained: Path | None) -> None:
    if trained is None or not trained.is_file() or not trained.read_bytes().strip():
        return
    learned = {row.key for row in read_dataset(str(trained)).rows}
    for name in SETS:
        seen = [row for row in rows[name] if row.key in learned]
        if seen:
            raise DataError(
                f"{len(seen)} {name} rows are in {trained}, which the candidate was trained on (the first is "
                f"line {seen[0].line}); rows to judge by are never trained on"
            )
