"""What the gateway exports of what the store alone knows: the controller, replicas, routes, loads, events."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.api.fleet_metrics import MOST_EVENTS, FleetMetrics, Known, read
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, RouteSpec
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.events import Event
from gateway.store.fleet import CONTROLLER
from gateway.store.placement import Counts
from gateway.telemetry import MAX_ADAPTERS, Telemetry


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ControlStore]:
    """An empty store."""
    database = Database(f"sqlite:///{tmp_path / 'control.db'}", "control", durable=False)
    database.migrate()
    yield ControlStore(database)
    database.close()


def value(known: Known, name: str, **labels: str) -> float | None:
    """One sample."""
    registry = CollectorRegistry()
    registry.register(FleetMetrics(lambda: known))
    return registry.get_sample_value(f"turnout_{name}", labels)


def test_an_empty_store_has_no_controller(control: ControlStore) -> None:
    """Where nobody ever held the lease it ended at the beginning of time, so an alert on its age fires."""
    known = read(control)
    assert value(known, "controller_lease_expiry_timestamp_seconds") == 0
    assert value(known, "controller_epoch") == 0
    assert value(known, "routes", state="active") == 0


def test_what_the_controller_leaves(control: ControlStore) -> None:
    """The lease's end and epoch, when a replica was seen, and what it has room for."""
    began = time.time()
    epoch = control.fleet.acquire(CONTROLLER, "one", ttl_s=60.0) or 0
    control.fleet.set_replicas({"a": ("http://a", None), "b": ("http://b", None)})
    room = {"max_loras": 2, "max_cpu_loras": 8, "registered": ["x@1"]}
    control.fleet.observe("a", epoch=epoch, healthy=True, incarnation="1", capacity=room)
    known = read(control)
    assert value(known, "controller_epoch") == 1
    assert (value(known, "controller_lease_expiry_timestamp_seconds") or 0) >= began + 59
    assert (value(known, "replica_seen_timestamp_seconds", replica="a") or 0) >= began - 1
    assert value(known, "replica_seen_timestamp_seconds", replica="b") is None
    assert value(known, "replica_adapter_slots", replica="a", slots="memory") == 8
    assert value(known, "replica_adapter_slots", replica="a", slots="batch") == 2


def test_routes_by_state_and_events(control: ControlStore) -> None:
    """Routes are counted by state; an event that people look for has its time, others do not."""
    row, _ = control.versions.add("s", "sha256:" + "0" * 64, {}, actor="test")
    control.routes.put("other", RouteSpec(arms=(Arm(adapter=str(row.ref), share=1.0),)), actor="test")
    known = read(control)
    assert value(known, "routes", state="preparing") == 2
    assert value(known, "routes", state="failed") == 0
    assert value(known, "event_timestamp_seconds", action="adapter.add", subject="s@1") is not None
    assert value(known, "event_timestamp_seconds", action="route.put", subject="other") is None


def event(number: int, subject: str) -> Event:
    """An event."""
    return Event(number, float(number), "x", "route.flip", subject, None, None, None, None, None)


def test_events_are_bounded() -> None:
    """Of one subject's events the newest counts, and of too many subjects the newest."""
    events = [event(1, "s"), event(5, "s"), event(3, "s")]
    assert (
        value(Known(events=tuple(events)), "event_timestamp_seconds", action="route.flip", subject="s") == 5
    )
    many = Known(events=tuple(event(number, f"s{number}") for number in range(MOST_EVENTS + 1)))
    assert value(many, "event_timestamp_seconds", action="route.flip", subject="s0") is None
    assert value(many, "event_timestamp_seconds", action="route.flip", subject="s1") == 1


def test_loads_and_evictions() -> None:
    """How often a version was loaded because requests waited, and how often it made room."""
    known = Known(counts={VersionRef("a", 1): Counts(cold_loads=2, evictions=1)})
    assert value(known, "adapter_cold_loads", adapter="a@1") == 2
    assert value(known, "adapter_evictions", adapter="a@1") == 1


@pytest.mark.parametrize(("versions", "exported"), [(3, 3), (MAX_ADAPTERS + 1, 1)])
def test_replicas_of_a_version(versions: int, exported: int) -> None:
    """Each version has the number of its replicas; of very many, those that are asked for."""
    telemetry = Telemetry()
    telemetry.adapter_label("a@1")
    telemetry.watch_placement(lambda: {f"a@{n}": ("r", "s") for n in range(1, versions + 1)})
    (family,) = [each for each in telemetry.families() if each.name == "turnout_adapter_replicas"]
    assert len(family.samples) == exported
    assert family.samples[("turnout_adapter_replicas", (("adapter", "a@1"),))] == 2
