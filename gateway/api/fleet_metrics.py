"""What the store knows and no worker counts, as metrics: controller, replicas, routes, cold loads, events.

The controller is a process without a port: what it does, it leaves in the store, and a gateway exports that.
What only ever grows here is a gauge all the same: every worker reads the same number, and counters of several
workers add up.
"""

import heapq
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.core.refs import VersionRef
from gateway.core.routes import RouteState
from gateway.store.control import REPLICA_DIED, ControlStore
from gateway.store.events import Event
from gateway.store.fleet import ReplicaRow
from gateway.store.placement import Counts
from gateway.telemetry import MAX_ADAPTERS

NOTABLE = (
    "adapter.add",
    "adapter.failed",
    "adapter.retire",
    "adapter.wrong_model",
    "limits.set",
    "loop.failed",
    "loop.promoted",
    "loop.proposed",
    "loop.rejected",
    "loop.rolled_back",
    REPLICA_DIED,
    "replica.quarantined",
    "replica.released",
    "route.canary",
    "route.failed",
    "route.flip",
)
"""The events that people look for beside a curve. Whoever changes keys or specs is in the audit log alone."""

EVENTS_LAST_S = 900.0
"""For so long after an event its time is exported: some scrapes will see it, and then its series ends."""

MOST_EVENTS = 100


@dataclass(frozen=True, slots=True)
class Known:
    """What was read. `lease` is the controller's: (holder, epoch, expires at); times are since the epoch."""

    lease: tuple[str, int, float] | None = None
    replicas: tuple[ReplicaRow, ...] = ()
    routes: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[VersionRef, Counts] = field(default_factory=dict)
    events: tuple[Event, ...] = ()


def read(control: ControlStore) -> Known:
    """Read it all.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    return Known(
        lease=control.fleet.controller(),
        replicas=tuple(control.fleet.replicas()),
        routes=control.routes.states(),
        counts=control.placement.counts(most=MAX_ADAPTERS),
        events=tuple(control.events.newest(*NOTABLE, since=time.time() - EVENTS_LAST_S)),
    )


class FleetMetrics:
    """A collector of what `known()` returns, which must be cheap."""

    def __init__(self, known: Callable[[], Known]) -> None:
        self._known = known

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        known = self._known()
        yield from _controller(known.lease)
        yield from _replicas(known.replicas)
        yield _routes(known.routes)
        yield from _loads(known.counts)
        yield _events(known.events)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnout_{name}", text, labels=labels)


def _controller(lease: tuple[str, int, float] | None) -> Iterable[Metric]:
    epoch = _family("controller_epoch", "How often the controller's lease began anew; 0 when it never did")
    until = _family("controller_lease_expiry_timestamp_seconds", "When the controller's lease ends or ended")
    epoch.add_metric([], lease[1] if lease else 0)
    until.add_metric([], lease[2] if lease else 0)
    yield from (epoch, until)


def _replicas(replicas: Iterable[ReplicaRow]) -> Iterable[Metric]:
    seen = _family("replica_seen_timestamp_seconds", "When the controller last saw it healthy", "replica")
    slots = _family(
        "replica_adapter_slots", "Adapters that an engine holds: in one batch, in memory", "replica", "slots"
    )
    for replica in replicas:
        if replica.seen_at is not None:
            seen.add_metric([replica.id], replica.seen_at)
        for name, kind in (("max_loras", "batch"), ("max_cpu_loras", "memory")):
            if isinstance(replica.capacity.get(name), int):
                slots.add_metric([replica.id, kind], replica.capacity[name])
    yield from (seen, slots)


def _routes(states: Mapping[str, int]) -> Metric:
    family = _family("routes", "Routes by state", "state")
    for state in get_args(RouteState):
        family.add_metric([state], states.get(state, 0))
    return family


def _loads(counts: Mapping[VersionRef, Counts]) -> Iterable[Metric]:
    loads = _family("adapter_cold_loads", "Loads of a version because requests waited, ever", "adapter")
    evictions = _family("adapter_evictions", "How often a version made room for another, ever", "adapter")
    for ref, count in counts.items():
        loads.add_metric([str(ref)], count.cold_loads)
        evictions.add_metric([str(ref)], count.evictions)
    yield from (loads, evictions)


def _events(events: Iterable[Event]) -> Metric:
    family = _family("event_timestamp_seconds", "When the newest such event was", "action", "subject")
    newest: dict[tuple[str, str], float] = {}
    for event in events:
        key = (event.action, event.subject)
        newest[key] = max(event.at, newest.get(key, 0.0))
    for key, at in heapq.nlargest(MOST_EVENTS, newest.items(), key=lambda each: each[1]):
        family.add_metric(key, at)
    return family
