"""Looking for events of one kind, and the refusals that a snapshot carries."""

import time

from gateway.store.control import REPLICA_DIED, ControlStore


def test_the_newest_of_one_kind(control: ControlStore) -> None:
    """Only events of that kind, since that time, and among the newest ones are found."""
    events = control.events
    assert events.newest("x", since=0.0) == []
    for number in range(4):
        events.add(actor="t", action="x" if number % 2 else "y", subject=str(number))
    assert [event.subject for event in events.newest("x", since=0.0)] == ["1", "3"]
    assert [event.subject for event in events.newest("x", since=0.0, among=2)] == ["3"]
    assert events.newest("x", since=time.time() + 60) == []


def test_a_snapshot_carries_what_is_refused(control: ControlStore) -> None:
    """Fingerprints of requests under which an engine died come with the table while they are refused."""
    now = time.time()
    for subject, until in (("e0", now + 60), ("e1", now - 1)):
        refused = {"refused": [f"{subject}-a", f"{subject}-b"], "until": until}
        control.events.add(actor="gateway", action=REPLICA_DIED, subject=subject, after=refused)
    assert control.snapshot().refused == {"e0-a": now + 60, "e0-b": now + 60}
