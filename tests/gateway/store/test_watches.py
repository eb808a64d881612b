"""Where watches stand: one transaction a look, by the lease's holder, one after the other."""

from dataclasses import replace

import pytest

from gateway.store.control import ControlStore
from gateway.store.drift import DriftRow
from gateway.store.lease import LeaseLost
from gateway.store.watches import ReferenceRow, WatchRow, lease_name


def held(control: ControlStore, holder: str = "me", route: str = "r") -> int:
    """Take the lease of a route's watch."""
    epoch = control.fleet.acquire(lease_name(route), holder, ttl_s=60)
    assert epoch is not None
    return epoch


def verdict(at: float, severity: str = "ignore") -> DriftRow:
    """A verdict of the watch."""
    return DriftRow(at, "r", "no_drift", {}, None, None, kind="sequential", severity=severity)  # type: ignore[arg-type]


def test_a_look_is_written_whole(control: ControlStore) -> None:
    """State, reference and verdict come together; a new reference takes the old one's place."""
    epoch = held(control)
    row = WatchRow("r", looks=1, adapter="a@1", reference=1, state={"x": [1.5]}, seen_at=3.0, seen_id="req-1")
    control.watches.commit(row, epoch=epoch, reference=ReferenceRow("r", 1, 2.0, {"d": 1}, b"\x00a"))
    assert control.watches.get("r") == row
    assert control.watches.reference("r", 1) == ReferenceRow("r", 1, 2.0, {"d": 1}, b"\x00a")
    after = replace(row, looks=2, reference=2)
    control.watches.commit(
        after, epoch=epoch, reference=ReferenceRow("r", 2, 2.0, {}, b""), verdicts=[verdict(5.0)]
    )
    assert control.watches.reference("r", 1) is None
    assert [each.at for each in control.drift.rows("r")] == [5.0]
    control.watches.commit(replace(after, looks=3), epoch=epoch, report=(5.0, "a.html", "a.json"))
    (found,) = control.drift.rows("r")
    assert (found.report_html, found.report_json, found.severity) == ("a.html", "a.json", "ignore")
    assert [each.state for each in control.watches.stand()] == [{}]
    control.watches.forget("r")
    assert control.watches.get("r") is None


def test_only_the_holder_writes_and_only_the_next_row(control: ControlStore) -> None:
    """A watcher that lost its lease, or whose row does not follow, writes nothing at all."""
    epoch = held(control)
    control.watches.commit(WatchRow("r", looks=1), epoch=epoch)
    for looks in (1, 3):
        with pytest.raises(LeaseLost):
            control.watches.commit(
                WatchRow("r", looks=looks, error="x"), epoch=epoch, verdicts=[verdict(1.0)]
            )
    control.fleet.release(lease_name("r"), "me")
    taken = held(control, "another")
    with pytest.raises(LeaseLost):
        control.watches.commit(WatchRow("r", looks=2), epoch=epoch, verdicts=[verdict(1.0)])
    control.watches.commit(WatchRow("r", looks=2), epoch=taken)
    assert control.drift.rows("r") == []
    assert control.watches.get("r") == WatchRow("r", looks=2)


def test_names_of_leases_fit(control: ControlStore) -> None:
    """Routes with the longest names have leases of their own."""
    assert len({lease_name("a" * 64), lease_name("a" * 63 + "b")}) == 2
    assert held(control, route="a" * 64) == 1


def test_verdicts_after_one_come_oldest_first(control: ControlStore) -> None:
    """Whoever acts on them reads on from the last one; kinds are told apart."""
    for at in (1.0, 2.0, 3.0):
        control.drift.add(verdict(at))
    control.drift.add(DriftRow(4.0, "r", "drift", {}, None, None))
    newest = control.drift.rows("r", limit=2)
    assert [each.at for each in newest] == [4.0, 3.0]
    first = control.drift.rows("r", after_id=0, limit=1)[0]
    assert [each.at for each in control.drift.rows("r", after_id=first.id)] == [2.0, 3.0, 4.0]
    assert [each.at for each in control.drift.latest()] == [4.0]
    assert [each.at for each in control.drift.latest("sequential")] == [3.0]


def test_old_verdicts_go_and_alarms_stay(control: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the watch's rows of a route the newest are kept, and every alarm."""
    monkeypatch.setattr("gateway.store.drift.prune.__kwdefaults__", {"keep": 3})
    epoch = held(control)
    control.drift.add(DriftRow(0.5, "r", "drift", {}, None, None))
    for looks in range(1, 8):
        control.watches.commit(
            WatchRow("r", looks=looks),
            epoch=epoch,
            verdicts=[verdict(float(looks), "retrain" if looks == 2 else "ignore")],
        )
    assert [each.at for each in control.drift.rows("r")] == [7.0, 6.0, 5.0, 2.0, 0.5]
