"""One check of one route: windows → columns → tests → report → a row in the drift table."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gateway.core.requests import RequestRow
from gateway.core.routes import Route
from gateway.store.control import ControlStore
from gateway.store.drift import DriftRow
from gateway.store.requests import Requests
from monitoring.embed import embed
from monitoring.features import Columns, columns
from monitoring.feedback import Ratings, compare, ratings
from monitoring.mmd import MmdResult, mmd_test
from monitoring.permutation import FloatArray
from monitoring.report import WITNESS, ReportColumns, ReportPaths, write_report
from monitoring.verdict import (
    EMBEDDING,
    ONE_LOOK,
    Figures,
    Verdict,
    WindowFigures,
    describe,
    judge_features,
    sentence,
)
from monitoring.windows import WindowPlan, Windows, arms_active_since, read_windows

Embed = Callable[[Sequence[str]], FloatArray]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What the caller decides. Times are seconds since the epoch; `alpha` is for all features together."""

    min_rows: int = 50
    max_rows: int = 1000
    alpha: float = 0.01
    embeddings: bool = True
    reference_since: float | None = None
    reference_until: float | None = None
    reference_rows: int | None = None
    current_since: float | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found, and where its report lies; there is none when nothing could be tested."""

    route: str
    at: float
    sentence: str
    figures: Figures
    report: ReportPaths | None

    def document(self) -> dict[str, Any]:
        """Return the outcome as `--json` prints it."""
        return {
            "route": self.route,
            "at": self.at,
            "verdict": str(self.figures.verdict),
            "sentence": self.sentence,
            "figures": self.figures.document(),
            "report_html": str(self.report.html) if self.report else None,
            "report_json": str(self.report.json) if self.report else None,
        }


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What was computed of two windows. `enough` says that both have the rows that a verdict needs."""

    reference: Columns
    current: Columns
    mmd: MmdResult | None
    ratings: Ratings
    enough: bool


class Monitor:
    """Checks routes on the store it is given and keeps the verdicts there."""

    def __init__(
        self, control: ControlStore, requests: Requests, *, reports: Path, embed_texts: Embed = embed
    ) -> None:
        self._control = control
        self._requests = requests
        self._reports = reports
        self._embed = embed_texts

    def check(self, route: Route, options: CheckOptions, *, say: Say) -> Outcome:
        """Check one route. `say` is told what takes its time.

        Raises:
            ImpossibleWindows: the windows asked for overlap, or one of them can't hold a row.
            StoreUnavailable: the store can't be read or written.
            EmbeddingUnavailable, ReportUnavailable: a library is missing.
        """
        at = time.time()
        say(f"{route.name}: reading recorded requests")
        windows = read_windows(self._requests, route.name, self._plan(route, options, now=at))
        evidence = self._gather(route, windows, options, say=say)
        figures = _figures(route, windows, evidence, options)
        words = sentence(route.name, figures)
        report = None
        if figures.verdict is not Verdict.TOO_LITTLE_DATA:
            say(f"{route.name}: writing the report")
            mmd = evidence.mmd
            report = write_report(
                self._reports / route.name,
                route=route.name,
                at=at,
                sentence=words,
                figures=figures,
                reference=_drawn(
                    evidence.reference, mmd.witness_reference if mmd else None, evidence.ratings
                ),
                current=_drawn(evidence.current, mmd.witness_current if mmd else None, evidence.ratings),
            )
        outcome = Outcome(route.name, at, words, figures, report)
        self._keep(outcome)
        return outcome

    def _plan(self, route: Route, options: CheckOptions, *, now: float) -> WindowPlan:
        since, origin = options.reference_since, "since the given time"
        if since is None:
            since = arms_active_since(self._control.events, route)
            origin = "since the route's present arms became active"
        if since is None:
            since, origin = 0.0, "since recording began"
        return WindowPlan(
            reference_since=since,
            origin=origin,
            now=now,
            max_rows=options.max_rows,
            reference_until=options.reference_until,
            reference_rows=options.reference_rows,
            current_since=options.current_since,
        )

    def _gather(self, route: Route, windows: Windows, options: CheckOptions, *, say: Say) -> _Evidence:
        reference, current = columns(windows.reference), columns(windows.current)
        enough = min(len(reference.ids), len(current.ids)) >= options.min_rows
        mmd = None
        if enough and options.embeddings:
            texts = [*reference.texts, *current.texts]
            say(f"{route.name}: embedding {len(texts)} prompts")
            vectors = self._embed(texts)
            say(f"{route.name}: testing")
            mmd = mmd_test(vectors[: len(reference.ids)], vectors[len(reference.ids) :])
        return _Evidence(reference, current, mmd, self._ratings(route, windows), enough)

    def _ratings(self, route: Route, windows: Windows) -> Ratings:
        rows = [*windows.reference, *windows.current]
        if not rows:
            return {}
        answer_ids = {row.answer_id: row.id for row in rows if row.answer_id is not None}
        return ratings(self._control.feedback.rows(route.name, since=min(row.at for row in rows)), answer_ids)

    def _keep(self, outcome: Outcome) -> None:
        document = outcome.document()
        self._control.drift.add(
            DriftRow(
                at=outcome.at,
                route=outcome.route,
                verdict=document["verdict"],
                figures=document["figures"],
                report_html=document["report_html"],
                report_json=document["report_json"],
            )
        )


def _figures(route: Route, windows: Windows, evidence: _Evidence, options: CheckOptions) -> Figures:
    reference, current, mmd = evidence.reference, evidence.current, evidence.mmd
    first, second = _window(windows.reference), _window(windows.current)
    figures = Figures(
        reference=first,
        current=second,
        rule=windows.rule,
        alpha=options.alpha,
        min_rows=options.min_rows,
        feedback=compare(evidence.ratings, reference.ids, current.ids, metrics=route.spec.metrics),
    )
    if not evidence.enough:
        return replace(figures, notes=_capture_note(route))
    tested = judge_features(reference, current, mmd, alpha=options.alpha, min_rows=options.min_rows)
    notes = [f"{name} was not tested: {reason}." for name, reason in tested.untested.items()]
    if not options.embeddings:
        notes.append(f"{EMBEDDING} was not tested: it was switched off.")
    return replace(
        figures,
        features=tested.features,
        described=describe(reference, current),
        bandwidth=mmd.bandwidth if mmd else None,
        notes=(*notes, ONE_LOOK, *_subject_note(first, second)),
    )


def _capture_note(route: Route) -> tuple[str, ...]:
    if route.spec.capture.mode != "off":
        return ()
    return (
        "This route captures no prompts of its own accord: set its spec's capture.mode to sampled or full.",
    )


def _subject_note(reference: WindowFigures, current: WindowFigures) -> list[str]:
    """Warn when the rows are far from independent draws: the p-values are then too small."""
    repeated = [
        f"{part.rows_with_subject} {name} rows come from {part.subjects} subjects"
        for name, part in (("reference", reference), ("current", current))
        if part.subjects < part.rows_with_subject / 2
    ]
    if not repeated:
        return []
    return [
        f"{' and '.join(repeated)}: p-values may be too small, since rows of one subject resemble each other."
    ]


def _window(rows: Sequence[RequestRow]) -> WindowFigures:
    subjects = [row.unit for row in rows if row.unit is not None]
    return WindowFigures(
        rows=len(rows),
        first_at=rows[0].at if rows else None,
        last_at=rows[-1].at if rows else None,
        adapters=dict(sorted(Counter(row.adapter for row in rows).items())),
        subjects=len(set(subjects)),
        rows_with_subject=len(subjects),
    )


def _drawn(window: Columns, witness: FloatArray | None, given: Ratings) -> ReportColumns:
    numbers = {} if witness is None else {WITNESS: witness}
    numbers |= window.numbers
    for metric, values in given.items():
        numbers[f"feedback_{metric}"] = np.array(
            [float(values.get(request_id, np.nan)) for request_id in window.ids]
        )
    return ReportColumns(numbers, {"finish_reason": window.finish_reason})
