"""Looking for events of one kind, and the refusals that a snapshot carries."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import Executable, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql

from gateway.core.who import Who
from gateway.store import schema
from gateway.store.control import REPLICA_DIED, ControlStore
from gateway.store.database import Database, Schema, StoreUnavailable


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


def test_who_and_from_where(control: ControlStore) -> None:
    """An actor brings its label and address along; a plain name has none."""
    control.events.add(actor=Who("k1", name="Ann", address="192.0.2.7"), action="x", subject="s")
    control.events.add(actor="controller", action="x", subject="s")
    found = [(event.actor, event.actor_name, event.address) for event in control.events.rows()]
    assert found == [("controller", None, None), ("k1", "Ann", "192.0.2.7")]
    assert all(type(event.actor) is str for event in control.events.rows())


def test_the_database_keeps_events_as_they_are(store_url: Callable[[Schema], str]) -> None:
    """In a store that the migrations made, no statement changes, removes or replaces an event."""
    database = Database(store_url("control"), "control")
    database.migrate()
    ControlStore(database).events.add(actor="t", action="x", subject="s")
    replaced = {"id": 1, "at": 0.0, "actor": "somebody else", "action": "x", "subject": "s", "generation": 1}
    statements: list[Executable] = [
        update(schema.events).values(actor="somebody else"),
        delete(schema.events),
        delete(schema.events).where(schema.events.c.id == 1),
    ]
    if store_url("control").startswith("sqlite"):
        statements.append(insert(schema.events).prefix_with("OR REPLACE").values(replaced))
    else:
        upsert = postgresql.insert(schema.events).values(replaced)
        changed = upsert.on_conflict_do_update(index_elements=["id"], set_={"actor": "somebody else"})
        statements += [changed, text("TRUNCATE events")]
    for statement in statements:
        with pytest.raises(StoreUnavailable, match="append-only"), database.write() as connection:
            connection.execute(statement)
    with database.read() as connection:
        assert connection.execute(select(schema.events.c.actor)).scalars().all() == ["t"]
    database.close()
