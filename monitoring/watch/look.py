"""One look at one route: what came in since the last one is counted, once, and judged.

A look is a chain of steps, of a day each at most. Each ends in one transaction that holds the detector's
state and the last request counted; that of the last step holds what was found, too. Whatever a step made
before that (embeddings, a report) is found or written again by the same name, so a watch that is killed
anywhere repeats a step or goes on after it, and counts nothing twice.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gateway.core.routes import Route
from gateway.store.control import ControlStore
from gateway.store.drift import DriftRow
from gateway.store.epochs import champion, champion_since
from gateway.store.requests import Requests
from gateway.store.traffic import Period, Seen
from gateway.store.watches import WatchRow
from monitoring.detector.sample import TooLittle
from monitoring.watch import basis as bases
from monitoring.watch import figures
from monitoring.watch.basis import Basis
from monitoring.watch.beginning import Beginning, Begun
from monitoring.watch.columns import Languages
from monitoring.watch.options import WatchOptions
from monitoring.watch.ratings import Ratings
from monitoring.watch.references import Reference, renewed
from monitoring.watch.reporter import owed
from monitoring.watch.severity import Judgement
from monitoring.watch.state import State
from monitoring.watch.vectors import Vectors

_DAY_S = 86_400.0
_JUST_AFTER_S = 1e-3
_MOST_KEPT = 8
"""References of so many routes stay in memory; they take megabytes."""

_RATINGS_SETTLE_S = 10.0
"""A rating's number is given before it is written; after so long none is missing below another."""

CAPTURES_NOTHING = (
    "This route captures no prompts of its own accord: set its spec's capture.mode to sampled or full."
)

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found, for people and for `--json`."""

    route: str
    at: float
    sentence: str
    figures: dict[str, Any]

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "route": self.route,
            "at": self.at,
            "severity": self.figures["severity"],
            "cause": self.figures["cause"],
            "sentence": self.sentence,
            "figures": self.figures,
        }


class Watcher:
    """Looks at routes, on the stores that it is given."""

    def __init__(
        self,
        control: ControlStore,
        requests: Requests,
        vectors: Vectors,
        *,
        options: WatchOptions,
        languages: Languages,
        clock: Clock = time.time,
    ) -> None:
        self._control = control
        self._requests = requests
        self._vectors = vectors
        self._options = options
        self._languages = languages
        self._clock = clock
        self._ratings = Ratings(control, requests, vectors)
        self._beginning = Beginning(requests, vectors, self._ratings, options=options, languages=languages)
        self._references: dict[str, tuple[int, Reference]] = {}

    def look(self, route: Route, *, routes: int, epoch: int) -> Look:
        """Look at a route. `routes`, all that there are, share the budget of false alarms.

        `epoch` is that of the route's lease.

        Raises:
            LeaseLost: another watcher was faster; nothing of the present step was written.
            StoreUnavailable: a store can't be read or written.
            EmbeddingUnavailable: the embedding model is missing.
        """
        now = self._clock()
        row = self._control.watches.get(route.name) or WatchRow(route.name)
        basis = self._basis(route, row, now=now)
        if basis is None:
            lacking = TooLittle(
                "it serves no version yet", 0, 0.0, self._options.min_rows, self._options.min_days
            )
            return self._nothing_yet(route, row, Basis("", self._vectors.model, now), lacking, epoch=epoch)
        if basis.document() != row.basis:
            row = _anew(row, basis)
        if row.reference == 0 or not row.state:
            begun = self._beginning.begin(route, basis, routes=routes, now=now)
            if isinstance(begun, TooLittle):
                return self._nothing_yet(route, row, basis, begun, epoch=epoch)
            row = self._begin(route, row, begun, routes=routes, epoch=epoch)
        state = self._state(route, row, routes=routes)
        if state is None:  # of another version of Turnout, or gone: begin anew at the next look
            return self._start_over(route, row, basis, epoch=epoch)
        return self._go_on(route, state, basis, now=now, epoch=epoch)

    def failed(self, route: Route, error: Exception, *, epoch: int) -> None:
        """Note that a look could not be made.

        Raises:
            LeaseLost, StoreUnavailable: nor could that.
        """
        row = self._control.watches.get(route.name) or WatchRow(route.name)
        row = replace(row, failed=row.failed + 1, error=f"{error}"[:1000], due_at=self._due())
        self._control.watches.commit(_next(row), epoch=epoch)

    def _basis(self, route: Route, row: WatchRow, *, now: float) -> Basis | None:
        adapter = champion(route.status.effective_arms)
        if adapter is None:
            return None
        since = champion_since(self._control.epochs.rows(route.name), adapter)
        basis = bases.choose(
            Basis.from_document(row.basis),
            adapter=adapter,
            since=since or 0.0,
            model=self._vectors.model,
            pinned=self._options.pinned,
        )
        if basis.why in ("alarm", "exhausted") and basis.since > now:  # by a clock that ran ahead
            return replace(basis, since=now - self._options.settle_s)
        return basis

    def _begin(self, route: Route, row: WatchRow, begun: Begun, *, routes: int, epoch: int) -> WatchRow:
        number = row.reference + 1
        kept = begun.reference.row(number, at=self._clock())
        row = _next(
            replace(
                row,
                reference=number,
                state=State.begun(begun.sequences, routes=routes),
                seen_at=begun.reference.period.until,
                seen_id="",
            )
        )
        self._control.watches.commit(row, epoch=epoch, reference=kept)
        self._remember(route, number, begun.reference)
        return row

    def _remember(self, route: Route, number: int, reference: Reference) -> None:
        self._references.pop(route.name, None)
        self._references[route.name] = (number, reference)
        while len(self._references) > _MOST_KEPT:
            self._references.pop(next(iter(self._references)))

    def _state(self, route: Route, row: WatchRow, *, routes: int) -> State | None:
        """Return what to go on with. Of routes that were added since, each takes its part of the budget."""
        number, reference = self._references.get(route.name, (0, None))
        try:
            if reference is None or number != row.reference:
                kept = self._control.watches.reference(route.name, row.reference)
                if kept is None:
                    return None
                reference = Reference.of(kept)
                self._remember(route, row.reference, reference)
            state = State.of(row, reference, routes=routes)
        except (ValueError, KeyError):
            return None
        state.forget_rescaled(route)
        return state

    def _go_on(self, route: Route, state: State, basis: Basis, *, now: float, epoch: int) -> Look:
        """Count what came in since, a day at most in each step, then the ratings, and judge."""
        horizon = now - self._options.settle_s
        state.set_right(now=now, horizon=horizon)
        while (step := self._step(route, state.row, basis, horizon)) is not None:
            if state.unsaid:
                state.row = _next(replace(state.row, state=state.document()))
                self._control.watches.commit(state.row, epoch=epoch)
            self._count(state, step)
            if state.judgement().severity == "retrain":
                break
        self._rate(route, state, basis, now=now)
        return self._judge(route, state, basis, epoch=epoch)

    def _step(self, route: Route, row: WatchRow, basis: Basis, horizon: float) -> Period | None:
        """Return the next period that has rows to count, of one day; None when all are counted.

        It ends with a row: a clock that runs ahead takes nothing along that is yet to come.
        """
        bounds = self._requests.traffic.bounds(Period(route.name, row.seen_at, horizon, basis.adapter))
        if bounds is None:
            return None
        first, last = bounds
        until = min(_end_of_day(first), last + _JUST_AFTER_S, horizon)
        return Period(route.name, row.seen_at, until, basis.adapter)

    def _count(self, state: State, period: Period) -> None:
        """Hand the rows of a period to the detector; the state's row moves to its end."""
        after = Seen(state.row.seen_id, state.row.seen_at)
        seen = self._requests.traffic.sample(period, limit=self._options.look_rows, after=after)
        rows = self._requests.traffic.rows(seen)
        state.count(period, rows, self._vectors.of(rows), languages=self._languages)

    def _rate(self, route: Route, state: State, basis: Basis, *, now: float) -> None:
        """Count the ratings that came in since; begin with metrics that have enough of them by now."""
        since = Period(route.name, state.reference.period.until, now, basis.adapter)
        before, calibration = now - _RATINGS_SETTLE_S, state.reference.calibration
        for metric in self._ratings.metrics(route, since):
            last = state.sequences.last_id(metric)
            if last is None:
                self._beginning.rate(
                    route, metric, state.reference, state.sequences,
                    before=before, until=now, routes=state.routes,
                )  # fmt: skip
                continue
            for part in self._ratings.parts(
                route, since, metric, before=before, after_id=last, calibration=calibration
            ):
                state.sequences.update(metric, part)
                state.unsaid = True
                state.row = replace(state.row, rated_id=max(state.row.rated_id, part.last_id))

    def _judge(self, route: Route, state: State, basis: Basis, *, epoch: int) -> Look:
        evidence, ratings = state.detector.evidence(), state.sequences.evidence()
        judgement = state.judgement()
        found = figures.found(
            state.reference, basis, evidence, ratings, judgement,
            seen_at=state.row.seen_at, notes=tuple(state.notes),
        )  # fmt: skip
        news, state.unsaid = state.unsaid, False
        row = replace(self._looked(state.row), state=state.document())
        after = self._what_follows(row, state, basis, judgement, exhausted=evidence.exhausted)
        return self._commit(
            route, after, judgement, found, say=news or judgement.severity == "retrain", epoch=epoch
        )

    def _what_follows(
        self, row: WatchRow, state: State, basis: Basis, judgement: Judgement, *, exhausted: bool
    ) -> WatchRow:
        """Return the row after a look: an alarm, or a reference that is used up, ends the reference."""
        if judgement.severity == "retrain":
            alarms = {**row.alarms, judgement.stream: self._clock()}
            begin = Basis(basis.adapter, basis.model, row.seen_at, "alarm", pinned=basis.pinned)
            return replace(_anew(row, begin), alarms=alarms)
        if exhausted:
            used = state.reference.period
            traffic = self._requests.traffic
            return _anew(row, renewed(traffic, basis, used, options=self._options, seen_at=row.seen_at))
        return row

    def _nothing_yet(
        self, route: Route, row: WatchRow, basis: Basis, lacking: TooLittle, *, epoch: int
    ) -> Look:
        notes = (CAPTURES_NOTHING,) if route.spec.capture.mode == "off" else ()
        found = figures.missing(basis, lacking, notes=notes)
        said = row.figures.get("too_little") == found["too_little"]
        nothing = Judgement("too_little_data", "none", "", 0.0, 0.0, None)
        return self._commit(route, self._looked(row), nothing, found, say=not said, epoch=epoch)

    def _start_over(self, route: Route, row: WatchRow, basis: Basis, *, epoch: int) -> Look:
        lacking = TooLittle(
            "what it was compared with can't be read by this version: it begins anew",
            0, 0.0, self._options.min_rows, self._options.min_days,
        )  # fmt: skip
        return self._nothing_yet(route, replace(row, state={}), basis, lacking, epoch=epoch)

    def _commit(
        self,
        route: Route,
        row: WatchRow,
        judgement: Judgement,
        found: dict[str, Any],
        *,
        say: bool,
        epoch: int,
    ) -> Look:
        now = self._clock()
        verdicts = [_verdict(row, judgement, found, at=now)] if say else []
        debt = owed(row, found, at=now, options=self._options) if say else row.figures.get("owed")
        carried = {"reported_at": row.figures.get("reported_at"), "owed": debt}
        row = _next(replace(row, figures={**found, **carried}))
        self._control.watches.commit(row, epoch=epoch, verdicts=verdicts)
        return Look(route.name, now, figures.sentence(route.name, found), found)

    def _looked(self, row: WatchRow) -> WatchRow:
        return replace(row, looked_at=self._clock(), due_at=self._due(), error=None)

    def _due(self) -> float | None:
        every = self._options.every_s
        return None if every is None else self._clock() + every


def _next(row: WatchRow) -> WatchRow:
    return replace(row, looks=row.looks + 1)


def _anew(row: WatchRow, basis: Basis) -> WatchRow:
    """Return a row that waits for a reference from `basis` on; the number of the last one is kept."""
    return replace(row, adapter=basis.adapter, basis=basis.document(), state={})


def _end_of_day(at: float) -> float:
    return at - at % _DAY_S + _DAY_S


def _verdict(row: WatchRow, judgement: Judgement, found: dict[str, Any], *, at: float) -> DriftRow:
    verdicts = {"retrain": "drift", "too_little_data": "too_little_data"}
    window = found["windows"].get("current", {})
    return DriftRow(
        at=at,
        route=row.route,
        verdict=verdicts.get(judgement.severity, "no_drift"),
        figures=found,
        report_html=None,
        report_json=None,
        kind="sequential",
        severity=judgement.severity,
        cause=judgement.cause,
        evidence=judgement.evidence,
        threshold=judgement.threshold,
        effect=None if judgement.effect is None else judgement.effect.value,
        looked_from=window.get("since"),
        looked_to=window.get("until"),
        adapter=row.adapter,
    )
