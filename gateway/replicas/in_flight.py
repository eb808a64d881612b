"""How many requests of each version this worker has under way, from resolving to the last byte.

The controller unregisters a version only when every worker reports none of it, so a request counts here
before it waits for a replica and until it is over, retries included. What enters is also metered, for
placement.
"""

from gateway.replicas.meter import Meter


class InFlight:
    """Counts by version label. Belongs to one event loop."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self._counts: dict[str, int] = {}

    def enter(self, label: str) -> None:
        """Count a request of `label`."""
        self._counts[label] = self._counts.get(label, 0) + 1
        self.meter.count(label)

    def leave(self, label: str) -> None:
        """Uncount it."""
        left = self._counts[label] - 1
        if left:
            self._counts[label] = left
        else:
            del self._counts[label]

    def counts(self) -> dict[str, int]:
        """Return a copy of the counts; versions with none are absent."""
        return dict(self._counts)

    @property
    def total(self) -> int:
        """How many requests are under way."""
        return sum(self._counts.values())
