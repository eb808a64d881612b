"""How old the oldest rows are that are removed by age, and for how long such rows are kept, as metrics.

Removing is the controller's, which has no port. Whether it keeps up shows in what is left.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.store import pruning
from gateway.store.database import Database

if TYPE_CHECKING:
    from gateway.store.pruning import Prunable


class RetentionMetrics(Collector):
    """The rows of both databases, by kind. `kept_s` says for how long; 0 keeps them, and nothing is shown.

    Verdicts on drift are left out: the newest of each route stays however old it is.
    """

    def __init__(self, control: Database, requests: Database, kept_s: Mapping[str, float]) -> None:
        self._kept_s = kept_s
        self._rows: dict[str, Prunable] = {
            "requests": pruning.recorded_requests(requests),
            "pairs": pruning.pairs(requests),
            "ratings": pruning.ratings(control),
        }
        self._oldest: dict[str, float] = {}

    def keep_for(self, kept_s: Mapping[str, float]) -> None:
        """Take other times."""
        self._kept_s = kept_s

    def read(self) -> None:
        """Look again how old the oldest rows are.

        Raises:
            StoreUnavailable: a store can't be reached.
        """
        found = {kind: rows.oldest() for kind, rows in self._rows.items() if self._kept_s.get(kind)}
        self._oldest = {kind: at for kind, at in found.items() if at is not None}

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        oldest = GaugeMetricFamily(
            "turnout_oldest_row_timestamp_seconds", "When the oldest row was made", labels=["rows"]
        )
        kept = GaugeMetricFamily(
            "turnout_retention_seconds", "How long rows are kept before they are removed", labels=["rows"]
        )
        for kind, at in self._oldest.items():
            oldest.add_metric([kind], at)
        for kind, seconds in self._kept_s.items():
            if seconds:
                kept.add_metric([kind], seconds)
        yield from (oldest, kept)
