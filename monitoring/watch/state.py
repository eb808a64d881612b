"""What a watch knows of one route between its looks, and how the store keeps it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from gateway.core.routes import Route
from gateway.store.traffic import Period, Watched
from gateway.store.watches import WatchRow
from monitoring.detector.detector import Detector
from monitoring.detector.sample import Sample
from monitoring.watch import columns
from monitoring.watch.columns import Languages
from monitoring.watch.ratings import Sequences, signal_parts
from monitoring.watch.references import Reference
from monitoring.watch.severity import Judgement, judge
from monitoring.watch.vectors import VectorArray

_AHEAD = (
    "Requests dated up to {} were counted, which is later than now: a clock ran ahead, or this one is "
    "behind. What is dated from now on is counted."
)
_RESCALED = "The metric {} has another type, direction or range than its ratings had: it begins anew."


@dataclass(slots=True)
class State:
    """What one look carries from step to step. `routes` shared the budget when the reference began.

    `unsaid`: something was counted of which no verdict says yet. `ahead_at` is up to when requests were
    counted by a clock that ran ahead, until that time comes. `notes` are this look's.
    """

    row: WatchRow
    reference: Reference
    detector: Detector
    sequences: Sequences
    routes: int
    unsaid: bool = False
    ahead_at: float | None = None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, row: WatchRow, reference: Reference, *, routes: int) -> Self:
        """Return what to go on with. Of routes that were added since, each takes its part of the budget.

        Raises:
            ValueError, KeyError: it is of another version of Turnout.
        """
        kept = row.state
        shared = int(kept.get("routes", routes))
        times = max(1.0, routes / shared)
        return cls(
            row,
            reference,
            Detector(reference.calibration, kept["detector"], times=times),
            Sequences(kept["ratings"], times=times),
            shared,
            bool(kept.get("unsaid", False)),
            kept.get("ahead_at"),
        )

    @staticmethod
    def begun(sequences: Sequences, *, routes: int) -> dict[str, Any]:
        """Return the document of a state that begins with a reference."""
        return {"detector": None, "ratings": sequences.document(), "routes": routes}

    def document(self) -> dict[str, Any]:
        """Return it as JSON, without the row and the reference."""
        return {
            "detector": self.detector.state(),
            "ratings": self.sequences.document(),
            "routes": self.routes,
            "unsaid": self.unsaid,
            "ahead_at": self.ahead_at,
        }

    def judgement(self) -> Judgement:
        """Return what all streams say together, where things stand."""
        return judge(self.detector.evidence(), self.sequences.evidence())

    def forget_rescaled(self, route: Route) -> None:
        """Forget the ratings of metrics whose scale is another one by now: they mean something else."""
        self.notes += [_RESCALED.format(name) for name in self.sequences.rescaled(route)]

    def set_right(self, *, now: float, horizon: float) -> None:
        """Go on at `horizon` where a clock that ran ahead was set right: else nothing were seen until then.

        When the time comes up to which was counted, all before it is passed over: where the clock was not
        ahead but behind for a while, nothing is counted again.
        """
        if self.ahead_at is not None and horizon >= self.ahead_at:
            self.row = replace(self.row, seen_at=max(self.row.seen_at, self.ahead_at), seen_id="")
            self.ahead_at = None
        if self.row.seen_at > now:
            self.ahead_at = max(self.row.seen_at, self.ahead_at or 0.0)
            self.row = replace(self.row, seen_at=horizon, seen_id="")
        if self.ahead_at is not None:
            ahead = datetime.fromtimestamp(self.ahead_at, UTC)
            self.notes.append(_AHEAD.format(ahead.isoformat(" ", "seconds")))

    def count(
        self, period: Period, rows: Sequence[Watched], vectors: VectorArray, *, languages: Languages
    ) -> None:
        """Hand a period's rows to the detector and to the signals; the row moves to the period's end."""
        if rows:
            self.unsaid = True
            self.detector.update(
                Sample(
                    vectors=vectors,
                    numbers=columns.numbers(rows, self.reference.habits, languages=languages),
                    at=columns.times(rows),
                    units=[each.row.unit for each in rows],
                )
            )
            for name, part in signal_parts(rows, self.reference.calibration.strata(vectors)).items():
                if self.sequences.last_id(name) is not None and len(part.values):
                    self.sequences.update(name, part)
        self.row = replace(self.row, seen_at=period.until, seen_id="")
