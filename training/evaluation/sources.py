"""Which rows are judged by and which the baselines may learn from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.check import CheckOptions
from training.data.parsing import Columns
from training.data.prepare import PrepareOptions, prepare
from training.data.reading import read_dataset
from training.data.recognise import Form
from training.data.rows import DataError, Example, Preference, Rated, Row, Text
from training.data.splits import Shares, position
from training.evaluation.asking import is_text
from training.evaluation.systems import System
from training.publishing.lineage import fingerprint

MIN_ROWS = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where the rows are and how they are taken. `form`: what they are, where their fields leave it open."""

    source: str
    columns: Columns | None
    limit: int
    held_out: bool
    shares: dict[str, Any]
    train: str | None = None
    seen: bool = False
    form: Form | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows to judge by, the rows for the baselines, and what has to be said of them."""

    rows: tuple[Example, ...]
    train: tuple[Example, ...]
    notes: tuple[str, ...]


def take(wanted: Wanted, candidate: System) -> Taken:
    """Read the rows and choose.

    Raises:
        DataError: the source can't be read, or has too few rows that are prompts with answers, or texts.
        ValueError: the rows are those that the candidate was trained on, or not those that it should be.
    """
    if wanted.held_out:
        return _held_out(wanted, candidate)
    read, rows, notes = _judged_by(wanted.source, wanted)
    if not wanted.seen and _trained_on(candidate) == fingerprint(read):
        raise ValueError(
            f"{wanted.source} is the data that {candidate.name} was trained from; judge by the rows that "
            "were held out of it with --held-out, or by all of them with --seen"
        )
    train: tuple[Example, ...] = ()
    if wanted.train is not None:
        _, found, more = _judged_by(wanted.train, wanted)
        judged = {_told_by(row) for row in rows}
        train = tuple(row for row in found if _told_by(row) not in judged)
        notes += more
        if len(train) < len(found):
            notes.append(
                f"{len(found) - len(train)} rows of {wanted.train} are judged by, and were left out of it"
            )
    return Taken(_once(rows, wanted.limit), train, tuple(notes))


def _held_out(wanted: Wanted, candidate: System) -> Taken:
    """Clean and split the rows as training did, and check that this gives what lineage says."""
    recorded = _recorded(candidate)
    found = prepare(wanted.source, _as_trained(wanted, recorded))
    if found.splits is None:
        raise DataError(f"{wanted.source}: too few rows are left to judge by")
    notes: list[str] = []
    lineage = candidate.lineage
    counts = found.splits.counts()
    if lineage is None:
        notes.append(f"{candidate.name} has no lineage: nobody can check that these rows were held out of it")
    elif lineage.data_fingerprint != found.report.fingerprint:
        notes.append(
            f"{wanted.source} is not, or no longer, exactly the data that {candidate.name} was trained from; "
            "rows stay in their split when others are added, but this can't be checked"
        )
    elif any(
        lineage.rows.get(part) != counts[part] for part in ("validation", "test")
    ):  # --resample is of train
        raise ValueError(
            f"{candidate.name} was trained with {_counts(lineage.rows)}, and this split gives "
            f"{_counts(counts)}; say how it was split: --test-share, --validation-share, --train-limit"
        )
    test, train = _wanted_in(found.splits.test), _wanted_in(found.splits.train)
    if not test:
        raise DataError(f"{wanted.source} holds no prompts with wanted answers, and no texts")
    return Taken(_once(test, wanted.limit), tuple(train), tuple(notes))


def _as_trained(wanted: Wanted, recorded: Mapping[str, Any]) -> PrepareOptions:
    """Return how rows were read and split: as given, as lineage recorded it, as training does anyway."""
    given = {name: value for name, value in wanted.shares.items() if value is not None}
    shares = {name: recorded[name] for name in Shares.__dataclass_fields__ if name in recorded}
    checks = {name: recorded[name] for name in ("near", "personal", "conflicts") if name in recorded}
    return PrepareOptions(
        columns=wanted.columns,
        form=wanted.form,
        check=CheckOptions(**checks),
        shares=Shares(**{**shares, **given}),
        group=recorded.get("group"),
        embeddings=False,
    )


def _recorded(candidate: System) -> Mapping[str, Any]:
    """Return how the candidate's rows were checked and split, where its lineage says it (`config.split`)."""
    found = candidate.lineage.config.get("split") if candidate.lineage else None
    return found if isinstance(found, dict) else {}


def _judged_by(source: str, wanted: Wanted) -> tuple[tuple[Row, ...], list[Example], list[str]]:
    """Return the rows as they are and as `_wanted_in` has them, and what was left out."""
    found = read_dataset(source, columns=wanted.columns, form=wanted.form).rows
    examples = _wanted_in(found)
    if len(examples) < MIN_ROWS:
        raise DataError(
            f"{source} has {len(examples)} rows that are texts, or prompts with a wanted answer; at least "
            f"{MIN_ROWS} are needed"
        )
    left = len(found) - len(examples)
    return (
        found,
        examples,
        [f"{left} rows of {source} have no wanted answer and were left out"] if left else [],
    )


def _wanted_in(rows: Sequence[Row]) -> list[Example]:
    """Return the rows with what is wanted of each; of a text all of it, after nothing."""
    texts = [Example((), row.text, row.line, row.columns) for row in rows if isinstance(row, Text)]
    return texts or examples_in(rows)


def examples_in(rows: Sequence[Row]) -> list[Example]:
    """Return the rows with a wanted answer: of pairs the better one is wanted, of rated the liked."""
    return [example for row in rows if (example := _example(row)) is not None]


def _example(row: Row) -> Example | None:
    if isinstance(row, Example):
        return row
    if isinstance(row, Preference):
        return Example(row.messages, row.chosen, row.line, row.columns)
    if isinstance(row, Rated) and row.liked:
        return Example(row.messages, row.completion, row.line, row.columns)
    return None


def _once(rows: Sequence[Example], limit: int) -> tuple[Example, ...]:
    """Return each prompt or text once, at most `limit` of them by its hash, in the order they came in."""
    first: dict[str, Example] = {}
    for row in rows:
        first.setdefault(_told_by(row), row)
    kept = set(sorted(first, key=position)[:limit])
    return tuple(row for key, row in first.items() if key in kept)


def _told_by(row: Example) -> str:
    return row.completion if is_text(row) else row.key


def _trained_on(candidate: System) -> str | None:
    return candidate.lineage.data_fingerprint if candidate.lineage else None


def _counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in rows.items())
