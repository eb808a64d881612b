"""A reference: which period it is, what is learned from it, and how that is stored."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np

from gateway.store.traffic import Period, Traffic
from gateway.store.watches import ReferenceRow
from monitoring.detector.calibration import Calibration
from monitoring.detector.sample import DAY_S, TooLittle
from monitoring.watch.basis import Basis
from monitoring.watch.columns import Habits
from monitoring.watch.options import WatchOptions

_JUST_AFTER_S = 1e-3


@dataclass(frozen=True, slots=True)
class Reference:
    """What a detector compares with. `rows` of the period's `counted` ones were drawn."""

    period: Period
    rows: int
    counted: int
    habits: Habits
    calibration: Calibration

    def row(self, number: int, *, at: float) -> ReferenceRow:
        """Return it as it is stored."""
        archive = io.BytesIO()
        np.savez(archive, **self.calibration.arrays())  # type: ignore[arg-type]
        document = {
            "period": self.period._asdict(),
            "rows": self.rows,
            "counted": self.counted,
            "habits": self.habits.document(),
            "calibration": self.calibration.document(),
        }
        return ReferenceRow(self.period.route, number, at, document, archive.getvalue())

    @classmethod
    def of(cls, row: ReferenceRow) -> "Reference":
        """Return what was stored.

        Raises:
            ValueError: it is no reference of this version of Turnout.
        """
        try:
            with np.load(io.BytesIO(row.arrays), allow_pickle=False) as archive:
                arrays: dict[str, Any] = dict(archive)
            document = row.document
            return cls(
                period=Period(**document["period"]),
                rows=document["rows"],
                counted=document["counted"],
                habits=Habits.from_document(document["habits"]),
                calibration=Calibration.from_document(document["calibration"], arrays),
            )
        except (KeyError, TypeError, OSError) as error:
            raise ValueError(f"the stored reference can't be read: {error!r}") from error


def period_of(
    traffic: Traffic, basis: Basis, route: str, *, options: WatchOptions, now: float
) -> Period | TooLittle:
    """Return the shortest period from the basis on that is long and large enough, or what it lacks.

    A pinned period with an end is returned as it is.
    """
    horizon = now - options.settle_s
    if basis.until is not None:
        return Period(route, basis.since, min(basis.until, horizon), basis.answered_by)
    whole = Period(route, basis.since, horizon, basis.answered_by)
    bounds = traffic.bounds(whole)
    if bounds is None:
        return _too_little(0, 0.0, options)
    first, last = bounds
    enough_at = traffic.time_of(whole, options.min_rows)
    end = first + options.min_days * DAY_S
    if enough_at is None or max(enough_at, end) >= horizon:
        return _too_little(traffic.count(whole), (last - first) / DAY_S, options)
    return whole._replace(until=max(enough_at + _JUST_AFTER_S, end))


def renewed(traffic: Traffic, basis: Basis, used: Period, *, options: WatchOptions, seen_at: float) -> Basis:
    """Return the basis after a reference is used up: the newest traffic that was watched and is long enough.

    It never reaches back into the reference that was used up.
    """
    watched = Period(used.route, used.until, seen_at, basis.adapter)
    nth = traffic.time_of(watched, options.min_rows, newest=True)
    since = seen_at - options.min_days * DAY_S
    begin = max(used.until, since if nth is None else min(nth, since))
    return Basis(basis.adapter, basis.model, begin, "exhausted", pinned=basis.pinned)


def _too_little(rows: int, days: float, options: WatchOptions) -> TooLittle:
    missing = []
    if rows < options.min_rows:
        missing.append(f"{options.min_rows - rows} more prompts (one a subject and day)")
    if days < options.min_days:
        missing.append(f"{options.min_days - days:.1f} more days")
    words = " and ".join(missing) or "rows that are old enough"
    return TooLittle(f"the reference needs {words}", rows, days, options.min_rows, options.min_days)
