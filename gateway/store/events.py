"""What every change leaves behind: one event, and a generation when serving is affected.

These functions run inside the caller's transaction, so that a change and its event are one.
"""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.core.documents import Arm
from gateway.core.refs import VersionRef
from gateway.core.routes import RouteSpec, RouteStatus
from gateway.core.who import Who
from gateway.store.database import Database
from gateway.store.lease import require_epoch
from gateway.store.schema import events, generations, routes
from gateway.store.wakes import announce


@dataclass(frozen=True, slots=True)
class Event:
    """One change: who, from where, when, what, why, and the documents before and after.

    `actor` is a key's id or a part of the gateway; `actor_name` the key's label at the time.
    """

    id: int
    at: float
    actor: str
    action: str
    subject: str
    why: str | None
    generation_before: int | None
    generation: int | None
    before: Any
    after: Any
    actor_name: str | None = None
    address: str | None = None


class Events:
    """The audit log. The database itself refuses to change or remove what is in it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(
        self,
        subject: str | None = None,
        *,
        limit: int = 100,
        before_id: int | None = None,
        after_id: int | None = None,
        action: str | None = None,
        actor: str | None = None,
        since: float | None = None,
    ) -> list[Event]:
        """Return events, newest first, of one subject, action or actor when named.

        `before_id` pages on. With `after_id` they come oldest first, from behind that event on.
        """
        query = (
            select(events).limit(limit).order_by(events.c.id if after_id is not None else events.c.id.desc())
        )
        wanted = {"subject": subject, "action": action, "actor": actor}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(events.c[name] == value)
        if before_id is not None:
            query = query.where(events.c.id < before_id)
        if after_id is not None:
            query = query.where(events.c.id > after_id)
        if since is not None:
            query = query.where(events.c.at >= since)
        with self._database.read() as connection:
            return [Event(**row._asdict()) for row in connection.execute(query)]

    def newest(self, *actions: str, since: float, among: int = 200) -> list[Event]:
        """Return the events of these kinds since a time, looked for among the newest `among` of all kinds."""
        oldest = select(func.max(events.c.id) - among).scalar_subquery()
        query = select(events).where(
            events.c.id > func.coalesce(oldest, 0), events.c.action.in_(actions), events.c.at >= since
        )
        with self._database.read() as connection:
            return [Event(**row._asdict()) for row in connection.execute(query)]

    def add(
        self,
        *,
        actor: str,
        action: str,
        subject: str,
        why: str | None = None,
        before: Any = None,
        after: Any = None,
        epoch: int | None = None,
    ) -> None:
        """Record an event that stands alone.

        Raises:
            LeaseLost: `epoch` is given and no longer the controller's.
        """
        with self._database.write() as connection:
            if epoch is not None:
                require_epoch(connection, epoch)
            record(
                connection,
                actor=actor,
                action=action,
                subject=subject,
                why=why,
                before=before,
                after=after,
            )


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    why: str | None = None,
    generation_before: int | None = None,
    before: Any = None,
    after: Any = None,
) -> int:
    """Bump the generation, write the event, and return the new generation."""
    generation = bump(connection)
    connection.execute(
        insert(events).values(
            at=time.time(),
            actor=str(actor),
            actor_name=actor.name if isinstance(actor, Who) else None,
            address=actor.address if isinstance(actor, Who) else None,
            action=action,
            subject=subject,
            why=why,
            generation_before=generation_before,
            generation=generation,
            before=before,
            after=after,
        )
    )
    return generation


def bump(connection: Connection) -> int:
    """Advance the one row of the generation, announce it, and return its value."""
    changed = connection.execute(
        update(generations).where(generations.c.id == 1).values(value=generations.c.value + 1)
    )
    if changed.rowcount == 0:
        connection.execute(insert(generations).values(id=1, value=1))
    value = int(connection.execute(select(generations.c.value)).scalar_one())
    announce(connection, value)
    return value


def ensure_first_route(connection: Connection, ref: VersionRef, *, actor: str) -> None:
    """Give the first version of an adapter a route of the same name, unless there is one."""
    if connection.execute(select(routes.c.name).where(routes.c.name == ref.name)).first() is not None:
        return
    spec = RouteSpec(arms=(Arm(adapter=str(ref), share=1.0),))
    document = spec.model_dump(mode="json")
    generation = record(connection, actor=actor, action="route.put", subject=ref.name, after=document)
    connection.execute(
        insert(routes).values(
            name=ref.name,
            spec=document,
            generation=generation,
            status=RouteStatus().model_dump(mode="json"),
            updated_at=time.time(),
        )
    )
