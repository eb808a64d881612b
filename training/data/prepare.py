"""From a source to rows that are ready to train on: read, checked, split, resampled, and reported.

`turnout train` calls `prepare` once; `turnout data check` calls it too, and shows what it found.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from adapters.manifest import EmbeddingSample
from training.data import outliers
from training.data.balance import Resampling, balance, resampled
from training.data.check import NO_TOKENIZER, Checked, CheckOptions, Stage, check
from training.data.duplicates import DuplicatesUnavailable, across
from training.data.embedding import EmbeddingUnavailable, chosen, embedded, packed
from training.data.findings import CheckReport, Finding, Sample
from training.data.formats import Limits
from training.data.lengths import lengths_of, quantile, row_length
from training.data.parsing import Columns
from training.data.personal import by_form
from training.data.reading import read_dataset
from training.data.recognise import Form
from training.data.rows import DataError, Dataset, Kind, Row
from training.data.splits import Shares, Splits, split
from training.data.texts import prompt_texts
from training.data.tokens import Tokens
from training.data.traffic import Traffic


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """How a source is read, checked and split.

    `held_out` is a source whose prompts must not be trained on. `group` is the column whose values stay in
    one split. `embeddings`: a sample of what prompts mean is made, where the model is installed. `strict`:
    what can't be trained on is an error; otherwise the report says so, and there may be no splits.
    """

    columns: Columns | None = None
    kind: Kind | None = None
    form: Form | None = None
    traffic: Traffic | None = None
    limits: Limits = field(default_factory=Limits)
    check: CheckOptions = field(default_factory=CheckOptions)
    held_out: str | None = None
    shares: Shares = field(default_factory=Shares)
    group: str | None = None
    resampling: Resampling | None = None
    embeddings: bool = True
    seed: int = 7
    strict: bool = True


@dataclass(frozen=True, slots=True)
class Prepared:
    """The cleaned rows, their splits (None: too few rows), what was found, and a sample of embeddings."""

    dataset: Dataset
    splits: Splits[Row] | None
    report: CheckReport
    embedding_sample: EmbeddingSample | None = None


def prepare(
    source: str,
    options: PrepareOptions | None = None,
    *,
    tokens: Tokens | None = None,
    limit: int | None = None,
    stage: Stage = lambda _: nullcontext(),
) -> Prepared:
    """Return a source's rows, ready to train on.

    `tokens` counts the tokens of a text, of which a row may have `limit`; `stage` shows what is under way.

    Raises:
        DataError: the source can't be read, or its rows can't be trained on; the message says why.
        StoreUnavailable: the recorded traffic can't be read.
        OSError: the file or the hub can't be read.
    """
    wanted = options or PrepareOptions()
    with stage(f"Reading {source}"):
        dataset = _read(source, wanted)
        held_out = () if wanted.held_out is None else _cleaned(_read(wanted.held_out, wanted), wanted)
        held_out += _cleaned(replace(dataset, rows=dataset.held_out), wanted)
    how = replace(wanted.check, held_out=held_out)
    checked = check(dataset, how, tokens=tokens, limit=limit, stage=stage)
    report = checked.report
    if wanted.strict and report.fatal:
        raise DataError(f"{source}: {'; '.join(finding.why for finding in report.fatal)}")
    splits, report = _split(checked, wanted, tokens)
    sample = None
    if splits is not None and wanted.embeddings:
        with stage("Embedding a sample of the prompts"):
            sample, report = _embeddings(splits.train, report, wanted.seed)
    return Prepared(checked.dataset, splits, report, sample)


def measured(found: Prepared, tokens: Tokens, *, limit: int) -> Prepared:
    """Return the same with lengths in tokens, `limit` of which a row may have to be trained on.

    For who has a tokenizer only after the rows are known to be sound; nothing is dropped.
    """
    count = cache(tokens)

    def median(rows: Sequence[Row]) -> float:
        return quantile(sorted(row_length(row, count) for row in rows), 0.5)

    report = found.report
    lengths = lengths_of([row_length(row, count) for row in found.dataset.rows], "tokens", limit=limit)
    parts = tuple(
        replace(part, median_length=median(getattr(found.splits, part.name))) for part in report.splits
    )
    notes = tuple(note for note in report.notes if note != NO_TOKENIZER)
    return replace(found, report=replace(report, lengths=lengths, splits=parts, notes=notes))


def _read(source: str, wanted: PrepareOptions) -> Dataset:
    return read_dataset(
        source,
        columns=wanted.columns,
        kind=wanted.kind,
        form=wanted.form,
        traffic=wanted.traffic,
        limits=wanted.limits,
    )


def _cleaned(held_out: Dataset, wanted: PrepareOptions) -> tuple[Row, ...]:
    """Return held-out rows, cleaned as the others are, so that what is the same looks the same."""
    plain = CheckOptions(personal=wanted.check.personal, ner_model=wanted.check.ner_model, near=None)
    masked = replace(plain, personal="mask") if plain.personal == "drop" else plain
    if not held_out.rows:
        return ()
    return check(held_out, replace(masked, conflicts="keep")).dataset.rows


def _split(
    checked: Checked, wanted: PrepareOptions, tokens: Tokens | None
) -> tuple[Splits[Row] | None, CheckReport]:
    report, rows = checked.report, checked.dataset.rows
    try:
        splits: Splits[Row] = split(rows, wanted.shares, clusters=checked.clusters, group=wanted.group)
    except DataError as error:
        if wanted.strict:
            raise
        return None, _with(report, Finding("no splits", "fatal", len(rows), str(error)))
    if wanted.group is not None:
        splits, report = _unleaked(splits, report, wanted.check.near)
    report = replace(report, splits=balance(splits, tokens or len))
    if wanted.resampling is not None:
        more = resampled(splits.train, wanted.resampling)
        why = f"training rows by --resample {wanted.resampling.way}: {len(splits.train)} became {len(more)}"
        report = _with(report, Finding("resampled", "changed", abs(len(more) - len(splits.train)), why))
        splits = replace(splits, train=more)
    return splits, report


def _unleaked(
    splits: Splits[Row], report: CheckReport, near: float | None
) -> tuple[Splits[Row], CheckReport]:
    """Drop training rows whose prompts are held out too: groups may say the same, clusters can't."""
    held = (*splits.validation, *splits.test)
    train, theirs = [row.key for row in splits.train], [row.key for row in held]
    try:
        found = across(train, theirs, near)
    except DuplicatesUnavailable:
        found = across(train, theirs, None)
    if not found:
        return splits, report
    samples = tuple(
        Sample(
            splits.train[place].line,
            by_form(prompt_texts(splits.train[place])[-1]).text[:160],
            f"as line {held[pair.second].line} ({pair.similarity:.2f})",
        )
        for place, pair in sorted(found.items())[:3]
    )
    why = "training rows whose prompts are in another group that is held out"
    kept = tuple(row for place, row in enumerate(splits.train) if place not in found)
    if not kept:
        raise DataError("every training row says nearly what a held-out one of another group says")
    report = replace(report, rows_kept=report.rows_kept - len(found))
    return replace(splits, train=kept), _with(report, Finding("leaked", "dropped", len(found), why, samples))


def _embeddings(
    train: Sequence[Row], report: CheckReport, seed: int
) -> tuple[EmbeddingSample | None, CheckReport]:
    rows = chosen(train, seed=seed)
    try:
        vectors: Any = embedded(rows)
    except EmbeddingUnavailable as error:
        return None, replace(report, notes=(*report.notes, f"no sample of embeddings: {error}"))
    odd = [rows[place] for place in outliers.by_meaning(vectors)]
    if odd:
        samples = tuple(
            Sample(row.line, by_form(prompt_texts(row)[-1]).text[:160], "far from its nearest neighbours")
            for row in odd[:3]
        )
        why = f"mean something else than the other prompts, of a sample of {len(rows)}"
        report = _with(report, Finding("odd meaning", "noted", len(odd), why, samples))
    return packed(vectors, seed=seed), report


def _with(report: CheckReport, finding: Finding) -> CheckReport:
    return replace(report, findings=(*report.findings, finding))
