"""Which rows are judged by and which the baselines may learn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.data.check import NerModelMissing
from training.data.parsing import Columns
from training.data.prepare import Prepared, prepare
from training.data.reading import read_dataset
from training.data.recognise import Form
from training.data.rows import DataError, Dataset, Example, Preference, Rated, Row, Text
from training.data.splits import position
from training.evaluation.as_trained import learned_from, options_of, split_in
from training.evaluation.asking import is_text
from training.evaluation.systems import System

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
    if not wanted.seen:
        notes += _unseen(wanted, candidate, read)
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


def _unseen(wanted: Wanted, candidate: System, read: Dataset) -> list[str]:
    """Return what can't be told of whether the candidate was trained from rows.

    Raises:
        ValueError: it was.
    """
    try:
        known = learned_from(candidate.lineage, read)
    except NerModelMissing as error:
        return [f"nobody can check that {candidate.name} was not trained from {wanted.source}: {error}"]
    if known:
        raise ValueError(
            f"{wanted.source} is the data that {candidate.name} was trained from; judge by the rows that "
            "were held out of it with --held-out, or by all of them with --seen"
        )
    return []


def _held_out(wanted: Wanted, candidate: System) -> Taken:
    """Clean and split the rows as training did, and check that this gives what lineage says."""
    lineage = candidate.lineage
    how = options_of(lineage, columns=wanted.columns, form=wanted.form, shares=wanted.shares)
    share = split_in(lineage).get("test", how.shares.test)
    if how.shares.test > share and not wanted.seen:
        raise ValueError(
            f"--test-share {how.shares.test} holds rows that {candidate.name} was trained on: it was trained "
            f"with {share}; leave the option out, or judge by them all the same with --seen"
        )
    try:
        found = prepare(wanted.source, how)
    except NerModelMissing as error:
        raise ValueError(
            f"{candidate.name} was trained with --ner-model {how.check.ner_model}, without which nobody "
            f"can tell the rows that were held out: {error}"
        ) from error
    if found.splits is None:
        raise DataError(f"{wanted.source}: too few rows are left to judge by")
    notes: list[str] = []
    counts = found.splits.counts()
    if lineage is None:
        notes.append(f"{candidate.name} has no lineage: nobody can check that these rows were held out of it")
    elif lineage.data_fingerprint != found.report.fingerprint:
        notes.append(_doubt(wanted, candidate, found))
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


def _doubt(wanted: Wanted, candidate: System, found: Prepared) -> str:
    """Return what is to be said of rows that are not, as they were cleaned here, those of training.

    Raises:
        ValueError: they were read as in training, so that cleaning has changed, and with it the split.
    """
    lineage = candidate.lineage
    if lineage and lineage.read_fingerprint == found.report.read_fingerprint:
        why = (
            f"{wanted.source} is the data that {candidate.name} was trained from, but cleaning it gives "
            "other rows here than it gave there: rows of training may be among those that are judged by"
        )
        if not wanted.seen:
            raise ValueError(f"{why}. Judge by other rows, or by these all the same with --seen")
        return why
    why = (
        f"{wanted.source} is not, or no longer, exactly the data that {candidate.name} was trained from: "
        "rows that were added leave the others where they were, but one that was changed since may be "
        "judged by although it was trained on"
    )
    if not split_in(lineage):
        why += "; nor does its lineage say how rows were cleaned and split, so that it is done as by default"
    return why


def _judged_by(source: str, wanted: Wanted) -> tuple[Dataset, list[Example], list[str]]:
    """Return the rows as they are and as `_wanted_in` has them, and what was left out."""
    found = read_dataset(source, columns=wanted.columns, form=wanted.form)
    examples = _wanted_in(found.rows)
    if len(examples) < MIN_ROWS:
        raise DataError(
            f"{source} has {len(examples)} rows that are texts, or prompts with a wanted answer; at least "
            f"{MIN_ROWS} are needed"
        )
    left = len(found.rows) - len(examples)
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


def _counts(rows: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in rows.items())
