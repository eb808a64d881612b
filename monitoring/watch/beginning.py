"""Where a watch begins: its reference drawn and calibrated, ratings taken, run lengths from the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.core.routes import Route
from gateway.core.signals import AGAIN_WITHIN_S
from gateway.store.requests import Requests
from gateway.store.traffic import Period, Watched
from monitoring.detector.budget import fleet_budget
from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.feedback import FeedbackOptions
from monitoring.detector.levels import BLOCK_ROWS
from monitoring.detector.sample import DAY_S, DetectorOptions, Sample, TooLittle
from monitoring.watch import columns
from monitoring.watch.basis import Basis
from monitoring.watch.columns import SIGNALS, Habits, Languages
from monitoring.watch.options import WatchOptions
from monitoring.watch.ratings import MOST_METRICS, Part, Ratings, Sequences, scale_of, signal_parts
from monitoring.watch.references import Reference, period_of
from monitoring.watch.vectors import VectorArray, Vectors

_LEAST_RUN = 1000.0
_DAYS_OF_A_MONTH = 30.0
_SHORTEST_DAYS = 1 / 24
_SLACK_DAYS = 0.5
"""A period of seven days holds rows whose first and last are a little less apart."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A reference, and the sequences of ratings and signals that begin with it."""

    reference: Reference
    sequences: Sequences


class Beginning:
    """Makes references."""

    def __init__(
        self,
        requests: Requests,
        vectors: Vectors,
        ratings: Ratings,
        *,
        options: WatchOptions,
        languages: Languages,
    ) -> None:
        self._traffic = requests.traffic
        self._vectors = vectors
        self._ratings = ratings
        self._options = options
        self._languages = languages

    def begin(self, route: Route, basis: Basis, *, routes: int, now: float) -> Begun | TooLittle:
        """Draw and calibrate a route's reference, or say what it lacks. `routes` share the budget."""
        period = period_of(self._traffic, basis, route.name, options=self._options, now=now)
        if isinstance(period, TooLittle):
            return period
        begun = self._from(route, period, routes=routes, now=now)
        if isinstance(begun, TooLittle) and basis.until is None:  # its rows lie closer together than its ends
            whole = period._replace(until=now - self._options.settle_s)
            begun = self._from(route, whole, routes=routes, now=now)
        return begun

    def rate(
        self,
        route: Route,
        metric: str,
        reference: Reference,
        sequences: Sequences,
        *,
        before: float,
        until: float,
        routes: int,
    ) -> bool:
        """Begin to watch a metric when the reference's requests have enough ratings of it; return whether.

        Where they have too few, those of later requests up to `until` are taken too, and count no more later.
        """
        period, calibration = reference.period, reference.calibration
        for end in (period.until, until):
            rated = period._replace(until=end)
            part = self._ratings.reference(route, rated, metric, before=before, calibration=calibration)
            if part is None:
                continue
            if end == period.until:  # a late rating of its requests hides none of later ones
                part = replace(part, last_id=0)
            options = self._feedback_options(route, metric, part.counted / self._days(rated), routes=routes)
            if sequences.begin(metric, part, options, scale=scale_of(route, metric)) is None:
                return True
        return False

    def _from(self, route: Route, period: Period, *, routes: int, now: float) -> Begun | TooLittle:
        # Rows that follow each other, as those of a look: how much such rows are alike is measured on them.
        seen = self._traffic.runs(period, limit=self._options.reference_rows, rows=BLOCK_ROWS)
        rows = self._traffic.rows(seen)
        counted, days = self._traffic.count(period), self._days(period)
        known = columns.habits(rows, languages=self._languages)
        vectors = self._vectors.of(rows)
        metrics = self._ratings.metrics(route, period)
        made = calibrate(
            self._sample(rows, known, vectors),
            DetectorOptions(
                run_length=self._run_length(counted / days * _DAYS_OF_A_MONTH, routes=routes),
                min_rows=self._options.min_rows,
                min_days=max(0.0, self._options.min_days - _SLACK_DAYS),
            ),
        )
        if isinstance(made, TooLittle):
            return made
        reference = Reference(period, len(rows), counted, known, made)
        sequences = Sequences({})
        for name, part in self._signals(rows, made, vectors).items():
            told = len(part.values) / len(rows) * counted  # of all that the period has, as a look sees them
            options = self._feedback_options(route, name, told / days, routes=routes)
            sequences.begin(name, part, options)
        for metric in metrics:
            self.rate(route, metric, reference, sequences, before=now, until=period.until, routes=routes)
        return Begun(reference, sequences)

    def _sample(self, rows: Sequence[Watched], known: Habits, vectors: VectorArray) -> Sample:
        return Sample(
            vectors=vectors,
            numbers=columns.numbers(rows, known, languages=self._languages, learning=True),
            at=columns.times(rows),
            units=[each.row.unit for each in rows],
        )

    def _signals(
        self, rows: Sequence[Watched], calibration: Calibration, vectors: VectorArray
    ) -> dict[str, Part]:
        parts = signal_parts(rows, calibration.strata(vectors))
        if self._options.settle_s <= AGAIN_WITHIN_S:  # it is not known by then
            parts.pop("asked_again")
        return parts

    def _feedback_options(
        self, route: Route, metric: str, ratings_a_day: float, *, routes: int
    ) -> FeedbackOptions:
        declared = route.spec.metrics.get(metric)
        default = FeedbackOptions()
        tolerance = default.tolerance
        if declared is not None and declared.min_effect is not None:
            tolerance = declared.min_effect / declared.span
        run_length = self._run_length(ratings_a_day * _DAYS_OF_A_MONTH, routes=routes)
        return replace(default, run_length=run_length, tolerance=tolerance)

    def _run_length(self, rows_a_month: float, *, routes: int) -> float:
        """Return after how many rows of a stream a false alarm may come: its part of the fleet's budget.

        Each route has the detector's stream, the signals', and those of the metrics that are watched at most.
        """
        streams = max(1, routes) * (1 + len(SIGNALS) + MOST_METRICS)
        shares = dict.fromkeys(map(str, range(streams)), rows_a_month)
        return max(_LEAST_RUN, fleet_budget(self._options.false_alarms_a_month, shares)["0"])

    def _days(self, period: Period) -> float:
        """Return how many days a period has from its first prompt on: before that there was no traffic."""
        bounds = self._traffic.bounds(period)
        since = period.since if bounds is None else bounds[0]
        return max((period.until - since) / DAY_S, _SHORTEST_DAYS)
