"""Ratings and signals of a route as sequences that fall or do not: one a metric, each with its own memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.routes import DEMONSTRATION, Metric, Route
from gateway.store.control import ControlStore
from gateway.store.requests import Requests
from gateway.store.traffic import Period, Rated, Seen, Watched
from monitoring.detector.calibration import Calibration
from monitoring.detector.feedback import FeedbackEvidence, FeedbackOptions, FeedbackSequence
from monitoring.detector.sample import TooLittle
from monitoring.detector.views import UNLIKE
from monitoring.permutation import FloatArray
from monitoring.watch import columns
from monitoring.watch.vectors import Vectors

MOST_METRICS = 5
_AT_ONCE = 2000
_MOST_OF_A_REFERENCE = 20_000
_DEFAULT = Metric()


@dataclass(frozen=True, slots=True)
class Part:
    """Ratings between 0 (worst) and 1 (best), oldest first, and of which kind of input each is.

    `at` are the times of the requests that were rated. `last_id` is the last rating that was read, and
    `counted` how many a reference has, of which these were drawn.
    """

    values: FloatArray
    strata: NDArray[np.int64]
    at: FloatArray
    last_id: int = 0
    counted: float = 0.0


class Ratings:
    """The ratings of routes, read from the store."""

    def __init__(self, control: ControlStore, requests: Requests, vectors: Vectors) -> None:
        self._control = control
        self._requests = requests
        self._vectors = vectors

    def metrics(self, route: Route, period: Period) -> list[str]:
        """Return the metrics of a route that can be watched: the primary one and the first others by name."""
        known = set(self._control.rated.metrics(period)) | set(route.spec.metrics)
        fit = [name for name in known if name != DEMONSTRATION and _fits(_metric(route, name))]
        return sorted(fit, key=lambda name: (not _metric(route, name).primary, name))[:MOST_METRICS]

    def parts(
        self,
        route: Route,
        period: Period,
        metric: str,
        *,
        before: float,
        after_id: int,
        calibration: Calibration,
    ) -> Iterator[Part]:
        """Yield what was stored after a rating and before a time, in parts."""
        while True:
            rows = self._control.rated.rows(period, metric, before=before, after_id=after_id, limit=_AT_ONCE)
            if not rows:
                return
            after_id = rows[-1].id
            yield self._part(_metric(route, metric), rows, calibration)

    def reference(
        self, route: Route, period: Period, metric: str, *, before: float, calibration: Calibration
    ) -> Part | None:
        """Return the ratings that a sequence begins from: those of a period, or a draw from all of it."""
        rows = self._control.rated.sample(period, metric, before=before, limit=_MOST_OF_A_REFERENCE)
        if not rows:
            return None
        count, last_id = self._control.rated.totals(period, metric, before=before)
        part = self._part(_metric(route, metric), rows, calibration)
        return replace(part, last_id=last_id, counted=count * len(part.values) / len(rows))

    def _part(self, metric: Metric, rows: list[Rated], calibration: Calibration) -> Part:
        last = rows[-1].id
        scaled = [(row, value) for row in rows if (value := _scaled(metric, row.value)) is not None]
        scaled.sort(key=lambda each: each[0].at)
        known = self._inputs([row for row, _ in scaled])
        strata = np.full(len(scaled), UNLIKE, dtype=np.int64)
        places = [place for place, (row, _) in enumerate(scaled) if row.request_id in known]
        if places:
            inputs = np.stack([known[scaled[place][0].request_id] for place in places])
            strata[places] = calibration.strata(inputs)
        return Part(
            values=np.array([value for _, value in scaled], dtype=np.float64),
            strata=strata,
            at=np.array([row.exposed_at for row, _ in scaled], dtype=np.float64),
            last_id=last,
        )

    def _inputs(self, rows: list[Rated]) -> dict[str, NDArray[np.float32]]:
        ids = list(dict.fromkeys(row.request_id for row in rows))
        known = self._vectors.found(ids)
        missing = [Seen(key, 0.0) for key in ids if key not in known]
        captured = [each for each in self._requests.traffic.rows(missing) if each.row.prompt is not None]
        made = self._vectors.of(captured)
        return known | {each.row.id: vector for each, vector in zip(captured, made, strict=True)}


class Sequences:
    """The sequences of one route, by metric. `document()` is what the store keeps of them."""

    def __init__(self, document: Mapping[str, Any], *, times: float = 1.0) -> None:
        """Go on from `document()`, with `times` the run lengths that sequences began with.

        Raises:
            ValueError: it is of another version.
        """
        self._sequences = {
            name: FeedbackSequence(kept["state"], times=times) for name, kept in document.items()
        }
        self._last: dict[str, int] = {name: int(kept["last_id"]) for name, kept in document.items()}
        self._scales: dict[str, list[Any] | None] = {
            name: kept.get("scale") for name, kept in document.items()
        }

    def last_id(self, name: str) -> int | None:
        """Return the last rating of a metric that was counted; None when the metric is not watched yet."""
        return self._last.get(name)

    def begin(
        self, name: str, part: Part, options: FeedbackOptions, *, scale: list[Any] | None = None
    ) -> TooLittle | None:
        """Begin to watch a metric from its reference; return what that lacks, if it does.

        `scale` is the metric's (`scale_of`); a signal has none.
        """
        begun = FeedbackSequence.begin(part.values, part.strata, options, at=part.at)
        if isinstance(begun, TooLittle):
            return begun
        self._sequences[name], self._last[name], self._scales[name] = begun, part.last_id, scale
        return None

    def rescaled(self, route: Route) -> list[str]:
        """Drop the metrics whose scale is no longer the one that they began with; return their names.

        One that was stored without its scale is taken for unchanged.
        """
        now = {name: scale_of(route, name) for name in self._sequences if name not in columns.SIGNALS}
        changed = [name for name, scale in now.items() if self._scales[name] not in (None, scale)]
        self._scales |= now
        for name in changed:
            del self._sequences[name], self._last[name], self._scales[name]
        return changed

    def update(self, name: str, part: Part) -> None:
        """Count further ratings of a metric."""
        self._sequences[name].update(part.values, part.strata, part.at)
        self._last[name] = part.last_id

    def evidence(self) -> dict[str, FeedbackEvidence]:
        """Return what each metric says, where things stand."""
        return {name: sequence.evidence() for name, sequence in sorted(self._sequences.items())}

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        return {
            name: {"state": sequence.state(), "last_id": self._last[name], "scale": self._scales[name]}
            for name, sequence in self._sequences.items()
        }


def signal_parts(rows: Sequence[Watched], strata: NDArray[np.int64]) -> dict[str, Part]:
    """Return what subjects did as ratings by signal: 1 where it did not happen, 0 where it did."""
    at = columns.times(rows)
    parts = {}
    for name, happened in columns.signals(rows).items():
        known = np.isfinite(happened)
        parts[name] = Part(1 - happened[known], strata[known], at[known])
    return parts


def scale_of(route: Route, name: str) -> list[Any]:
    """Return what a metric's ratings mean, as JSON: its type, which direction is better, its range."""
    metric = _metric(route, name)
    return [metric.type, metric.better, list(metric.range) if metric.range else None]


def _metric(route: Route, name: str) -> Metric:
    return route.spec.metrics.get(name, _DEFAULT)


def _fits(metric: Metric) -> bool:
    return metric.type == "bool" or metric.range is not None


def _scaled(metric: Metric, value: bool | float | str) -> float | None:
    """Return a rating between 0 (worst) and 1 (best)."""
    scaled = metric.scaled(value)
    if scaled is None:
        return None
    return scaled if metric.better == "higher" else 1 - scaled
