"""What an agent counts of itself, for Prometheus: what came, what did not and why, and how much room is left.

An agent stands alone beside its engine, so it has a registry of its own; the scrape adds the replica.
"""

import time
from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

Outcome = Literal["fetched", "found", "missing", "bucket", "room", "disk", "fault"]
"""How bringing a blob ended: it came, or was whole from before; the bucket has none or fails; there is no
room, the disk refuses, or a fault of our own."""

OUTCOMES: tuple[Outcome, ...] = ("fetched", "found", "missing", "bucket", "room", "disk", "fault")
GOOD: frozenset[Outcome] = frozenset({"fetched", "found"})


class Figures:
    """The metrics of one agent. Every outcome is there from the start: the first failure is a rise."""

    def __init__(self, *, max_bytes: int, wall: Callable[[], float] = time.time) -> None:
        self.registry = registry = CollectorRegistry()
        self._wall = wall

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"turnout_agent_{name}", text, registry=registry)

        self._syncs = Counter(
            "turnout_agent_syncs", "Blobs that were to be brought, by how that ended", ("outcome",),
            registry=registry,
        )  # fmt: skip
        for outcome in OUTCOMES:
            self._syncs.labels(outcome)
        self._bytes = Counter(
            "turnout_agent_fetched_bytes", "Bytes that came from the bucket", registry=registry
        )
        self._removed = Counter(
            "turnout_agent_removed_blobs", "Blobs that made room for others", registry=registry
        )
        self._good = gauge("last_success_timestamp_seconds", "When bringing a blob last ended well; 0: never")
        self._coming = gauge("fetching_blobs", "Blobs that are on their way now")
        self._blobs = gauge("blobs", "Blobs in place")
        self._used = gauge("blob_bytes", "Bytes of the blobs in place")
        self._free = gauge("disk_free_bytes", "Room on the disk that blobs are on")
        gauge("max_bytes", "The most that blobs may take").set(max_bytes)

    def ended(self, outcome: Outcome) -> None:
        """Count how bringing a blob ended."""
        self._syncs.labels(outcome).inc()
        if outcome in GOOD:
            self._good.set(self._wall())

    def came(self, count: int) -> None:
        """Count bytes that came, also those of a blob that is not whole yet."""
        if count > 0:
            self._bytes.inc(count)

    def removed(self) -> None:
        """Count a blob that made room."""
        self._removed.inc()

    def watch(
        self, *, sizes: Callable[[], dict[str, int]], free: Callable[[], int], coming: Callable[[], int]
    ) -> None:
        """Read at every scrape what is in place, what room there is, and how many are on their way."""
        self._blobs.set_function(lambda: len(sizes()))
        self._used.set_function(lambda: sum(sizes().values()))
        self._free.set_function(free)
        self._coming.set_function(coming)

    def exposition(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self.registry)
