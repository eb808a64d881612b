"""Replicas, registrations, workers, and the lease that elects one controller."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection

from gateway.core.refs import VersionRef
from gateway.store import holds
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER, LeaseLost, RegistrationRow, WorkerRow
from tests.gateway.store.conftest import Clock

REF = VersionRef("a", 1)


def elected(control: ControlStore, holder: str = "c1", *, ttl_s: float = 5.0) -> int:
    """Take the lease and return its epoch."""
    epoch = control.fleet.acquire(CONTROLLER, holder, ttl_s=ttl_s)
    assert epoch is not None
    return epoch


def row(incarnation: str = "i1", replica: str = "r0") -> RegistrationRow:
    """Return an attested version on a replica."""
    return RegistrationRow(replica, REF, incarnation, "sha256:0", "attested", {"mean": 0.1}, None, 1.0)


# Leases


def test_one_holder_at_a_time(control: ControlStore, clock: Clock) -> None:
    """While a lease runs, its holder renews it and nobody else gets it."""
    assert control.fleet.controller() is None
    assert elected(control, "c1") == 1
    clock.now += 4
    assert control.fleet.acquire(CONTROLLER, "c2", ttl_s=5) is None
    assert elected(control, "c1") == 1
    clock.now += 4
    assert control.fleet.acquire(CONTROLLER, "c2", ttl_s=5) is None
    assert control.fleet.controller() == ("c1", 1, 1009.0)


def test_a_lapsed_lease_changes_its_epoch(control: ControlStore, clock: Clock) -> None:
    """Whoever takes a lapsed lease, its old holder too, gets a new epoch."""
    elected(control, "c1")
    clock.now += 5
    assert elected(control, "c2") == 2
    clock.now += 5.1
    assert elected(control, "c2") == 3


def test_a_clock_that_is_set_back_blocks_nobody(control: ControlStore, clock: Clock) -> None:
    """A term that would end in an hour is cut to one term when another controller asks."""
    elected(control, "c1")
    clock.now -= 3600
    assert control.fleet.acquire(CONTROLLER, "c2", ttl_s=5) is None
    clock.now += 5
    assert elected(control, "c2") == 2


def test_a_revived_holder_is_refused(control: ControlStore, clock: Clock) -> None:
    """A holder that slept through its term can't renew it, and can't write under its old epoch."""
    control.fleet.set_replicas({"r0": ("http://r0", None)})
    old = elected(control, "c1")
    clock.now += 10
    with pytest.raises(LeaseLost):
        control.fleet.observe("r0", epoch=old, healthy=True, incarnation="i1")
    elected(control, "c2")
    assert control.fleet.acquire(CONTROLLER, "c1", ttl_s=5) is None
    for write in (
        lambda: control.fleet.observe("r0", epoch=old, healthy=True, incarnation="i1"),
        lambda: control.fleet.set_registration(row(), epoch=old),
        lambda: control.fleet.remove_registration("r0", REF, epoch=old),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert control.fleet.registrations() == []
    assert not control.fleet.replicas()[0].healthy


def test_a_lease_given_back(control: ControlStore, clock: Clock) -> None:
    """A released lease is free at once; releasing somebody else's does nothing."""
    elected(control, "c1", ttl_s=100)
    control.fleet.release(CONTROLLER, "c2")
    assert control.fleet.acquire(CONTROLLER, "c2", ttl_s=5) is None
    control.fleet.release(CONTROLLER, "c1")
    assert elected(control, "c2") == 2
    assert clock.now == 1000.0


def test_many_who_want_it_at_once(control: ControlStore) -> None:
    """Of twelve first holders at once exactly one is elected."""
    with ThreadPoolExecutor(12) as pool:
        epochs = list(pool.map(lambda n: control.fleet.acquire(CONTROLLER, f"c{n}", ttl_s=60), range(12)))
    assert sorted(epoch for epoch in epochs if epoch is not None) == [1]


def test_leases_by_name(control: ControlStore) -> None:
    """Leases of different names are independent."""
    elected(control, "c1")
    assert control.fleet.acquire("loop", "c2", ttl_s=5) == 1


# Replicas and registrations


def test_wanted_replicas(control: ControlStore) -> None:
    """What is known of a replica whose address stays is kept; of others it goes, with what was registered."""
    control.fleet.set_replicas({"r0": ("http://r0", None), "r1": ("http://r1", "/mnt")})
    epoch = elected(control)
    for name in ("r0", "r1"):
        control.fleet.observe(name, epoch=epoch, healthy=True, incarnation="i1", capacity={"max_loras": 4})
        control.fleet.set_registration(row(replica=name), epoch=epoch)
    before = control.generation()
    control.fleet.set_replicas({"r0": ("http://r0", None), "r1": ("http://elsewhere", "/mnt")})
    kept, moved = control.fleet.replicas()
    assert (kept.healthy, kept.incarnation, kept.capacity) == (True, "i1", {"max_loras": 4})
    assert (moved.healthy, moved.incarnation, moved.adapter_root) == (False, None, "/mnt")
    assert [known.replica for known in control.fleet.registrations()] == ["r0"]
    control.fleet.set_replicas({})
    assert control.fleet.replicas() == []
    assert control.fleet.registrations() == []
    assert control.generation() > before


def test_a_new_incarnation_forgets_what_was_registered(control: ControlStore, clock: Clock) -> None:
    """An engine that was started again has nothing; one that only fails keeps its incarnation."""
    control.fleet.set_replicas({"r0": ("http://r0", None)})
    epoch = elected(control, ttl_s=1000)
    control.fleet.observe("r0", epoch=epoch, healthy=True, incarnation="i1")
    control.fleet.set_registration(row(), epoch=epoch)
    clock.now += 3
    control.fleet.observe("r0", epoch=epoch, healthy=False, incarnation=None, reason="no answer")
    replica = control.fleet.replicas()[0]
    assert (replica.healthy, replica.incarnation, replica.reason) == (False, "i1", "no answer")
    assert replica.seen_at == 1000.0
    assert control.fleet.registrations() == [row()]
    control.fleet.observe("r0", epoch=epoch, healthy=True, incarnation="i2")
    assert control.fleet.registrations() == []
    control.fleet.observe("none", epoch=epoch, healthy=True, incarnation="i1")


def test_only_what_matters_is_a_generation(control: ControlStore) -> None:
    """Seeing a replica as it was moves no generation; its health and incarnation do."""
    control.fleet.set_replicas({"r0": ("http://r0", None)})
    epoch = elected(control)
    moves = []
    for healthy, incarnation in ((True, "i1"), (True, "i1"), (False, None), (False, None), (True, "i2")):
        before = control.generation()
        control.fleet.observe("r0", epoch=epoch, healthy=healthy, incarnation=incarnation)
        moves.append(control.generation() - before)
    assert moves == [1, 0, 1, 0, 1]


def test_registrations(control: ControlStore) -> None:
    """A version on a replica has one state, the last one; removing it twice is no fault."""
    control.fleet.set_replicas({"r0": ("http://r0", None)})
    epoch = elected(control)
    control.fleet.set_registration(row(), epoch=epoch)
    failed = RegistrationRow("r0", REF, "i2", "sha256:0", "failed", None, "unlike", 2.0)
    control.fleet.set_registration(failed, epoch=epoch)
    assert control.fleet.registrations() == [failed]
    for _ in range(2):
        control.fleet.remove_registration("r0", REF, epoch=epoch)
    assert control.fleet.registrations() == []


# Workers


def test_workers(control: ControlStore) -> None:
    """A beat replaces the last one and touches no other row; who signs off or is struck off is gone."""
    control.fleet.beat(WorkerRow("w0", 1, {"a@1": 2}, 1000.0))
    control.fleet.beat(WorkerRow("w0", 2, {}, 1001.0))
    control.fleet.beat(WorkerRow("w1", 2, {}, 1001.0))
    assert sorted(control.fleet.workers(), key=lambda w: w.id) == [
        WorkerRow("w0", 2, {}, 1001.0),
        WorkerRow("w1", 2, {}, 1001.0),
    ]
    control.fleet.forget_worker("w1")
    control.fleet.beat(WorkerRow("w2", 3, {}, 1001.0 + 3601))
    assert [worker.id for worker in control.fleet.workers()] == ["w0", "w2"]
    control.fleet.forget_silent(["w0"], epoch=elected(control))
    assert [worker.id for worker in control.fleet.workers()] == ["w2"]
    assert control.generation() == 0


def test_two_first_holders_at_once(control: ControlStore) -> None:
    """One of them has the lease, the other is told so."""
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: control.fleet.acquire(CONTROLLER, f"c{n}", ttl_s=60), range(8)))
    assert sorted(found, key=str) == [1, *[None] * 7]


def test_machines_that_start_at_once_write_the_same_replicas(
    control: ControlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who finds at the end that another one was first with a replica begins again and leaves it as it is."""
    if control.database.url.startswith("sqlite"):
        pytest.skip("its writers queue from the beginning")
    other = Database(control.database.url, "control")
    wanted = {"e0": ("http://e0", None), "e1": ("http://e1", None)}
    end, ends = holds.end, iter([True])

    def first(connection: Connection, replica: str) -> None:
        if next(ends, False):
            ControlStore(other).fleet.set_replicas(wanted)
        end(connection, replica)

    monkeypatch.setattr(holds, "end", first)
    control.fleet.set_replicas(wanted)
    assert [(found.id, found.url) for found in control.fleet.replicas()] == [
        ("e0", "http://e0"),
        ("e1", "http://e1"),
    ]
    other.close()
