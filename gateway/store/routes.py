"""Routes: their specs, which people write, and their status, which the controller writes."""

import json
import time
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection, Text, cast, delete, func, insert, select, update

from gateway.core.routes import Route, RouteSpec, RouteStatus, shares_of
from gateway.core.stored import read_route
from gateway.store import epochs, events
from gateway.store.database import Database, retried
from gateway.store.lease import require_epoch
from gateway.store.schema import findings, routes
from gateway.store.uses import require_active


class GenerationMismatch(Exception):
    """The route is at another generation than the caller believed; `current` is the real one."""

    def __init__(self, current: int | None) -> None:
        super().__init__(f"the route is at generation {current}")
        self.current = current


class _Change(NamedTuple):
    actor: str
    why: str | None
    action: str


class Routes:
    """The routes table. Every change leaves an event and a new generation."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[tuple[int, str, str], Route]] = {}

    def get(self, name: str) -> Route | None:
        """Return one route, or None."""
        with self._database.read() as connection:
            return _get(connection, name)

    def rows(self) -> list[Route]:
        """Return every route by name. One whose row reads as it did the last time is the same object.

        Of ten thousand routes a change moves a few, and documents cost a hundred times what their text does.
        """
        query = select(
            routes.c.name, routes.c.generation, cast(routes.c.spec, Text), cast(routes.c.status, Text)
        )
        before, known = self._known, {}
        with self._database.read() as connection:
            for name, generation, spec, status in connection.execute(query.order_by(routes.c.name)):
                text = (generation, spec, status)
                same = before.get(name)
                known[name] = same if same and same[0] == text else (text, _parsed(name, *text))
        self._known = known
        return [route for _, route in known.values()]

    def page(self, *, limit: int, after: str = "") -> list[Route]:
        """Return the first routes by name behind `after`."""
        query = select(routes).where(routes.c.name > after).order_by(routes.c.name).limit(limit)
        with self._database.read() as connection:
            return [_route(row) for row in connection.execute(query)]

    def states(self) -> dict[str, int]:
        """Return how many routes are in each state that some are in."""
        state = routes.c.status["state"].as_string()
        with self._database.read() as connection:
            rows = connection.execute(select(state, func.count()).group_by(state))
            return {name: count for name, count in rows}  # noqa: C416 - rows are no pairs to mypy

    def put(
        self,
        name: str,
        spec: RouteSpec,
        *,
        actor: str,
        why: str | None = None,
        if_generation: int | None = None,
        action: str = "route.put",
        active_versions_only: bool = False,
        epoch: int | None = None,
    ) -> tuple[Route, bool]:
        """Store a spec and return the route with whether anything changed.

        The same spec again is a no-op: neither the generation nor the status moves.

        Raises:
            GenerationMismatch: `if_generation` is given and is not the spec's generation.
            VersionsNotActive: `active_versions_only` is set, and the spec names others.
            LeaseLost: `epoch` is given and no longer the controller's.
        """
        change = _Change(actor, why, action)
        return retried(
            lambda: self._put(
                name,
                spec,
                change,
                if_generation=if_generation,
                active_versions_only=active_versions_only,
                epoch=epoch,
            )
        )

    def _put(
        self,
        name: str,
        spec: RouteSpec,
        change: _Change,
        *,
        if_generation: int | None,
        active_versions_only: bool,
        epoch: int | None,
    ) -> tuple[Route, bool]:
        with self._database.write() as connection:
            if epoch is not None:
                require_epoch(connection, epoch)
            known = _get(connection, name, to_write=True)
            if if_generation is not None and (known is None or known.generation != if_generation):
                raise GenerationMismatch(known.generation if known else None)
            if known is not None and known.spec == spec and known.fault is None:
                return known, False
            if active_versions_only:
                require_active(connection, spec.versions())
            document = spec.model_dump(mode="json")
            stored = select(routes.c.spec).where(routes.c.name == name)
            generation = events.record(
                connection,
                **change._asdict(),
                subject=name,
                generation_before=known.generation if known else None,
                before=connection.execute(stored).scalar_one() if known else None,
                after=document,
            )
            status = _preparing(known, spec)
            values = {
                "spec": document,
                "generation": generation,
                "status": status.model_dump(mode="json"),
                "updated_at": time.time(),
            }
            if known is None:
                connection.execute(insert(routes).values(name=name, **values))
            else:
                connection.execute(update(routes).where(routes.c.name == name).values(**values))
            return Route(name=name, spec=spec, generation=generation, status=status), True

    def set_status(
        self,
        name: str,
        status: RouteStatus,
        *,
        generation: int,
        actor: str,
        why: str | None = None,
        epoch: int | None = None,
        instead_of: RouteStatus | None = None,
    ) -> bool:
        """Write the controller's view of spec `generation`; False when the spec has moved on meanwhile.

        A change of what traffic meets, or of the state, leaves an event; any change bumps the generation.
        Other shares begin a new epoch of the route in the same transaction.
        `why` is the event's reason; the status's own by default. `instead_of` is the status that the decision
        was made from: it is False also when another one stands there by now.

        Raises:
            LeaseLost: `epoch` is given and no longer the controller's.
        """
        with self._database.write() as connection:
            if epoch is not None:
                require_epoch(connection, epoch)
            known = _get(connection, name, to_write=True)
            if known is None or known.generation != generation:
                return False
            if known.status == status:
                return True
            if instead_of is not None and known.status != instead_of:
                return False
            after = status.model_dump(mode="json")
            connection.execute(update(routes).where(routes.c.name == name).values(status=after))
            flipped = known.status.effective_arms != status.effective_arms
            action = "route.flip" if flipped else _action(known.status, status)
            if action is not None:
                now = events.record(
                    connection,
                    actor=actor,
                    action=action,
                    subject=name,
                    why=why or status.reason,
                    generation_before=known.status.active_generation,
                    before=known.status.model_dump(mode="json"),
                    after=after,
                )
                if flipped:
                    shares = shares_of(status.effective_arms)
                    epochs.begin(connection, name, shares, generation=now, salt=status.salt)
            else:
                events.bump(connection)
            return True

    def remove(self, name: str, *, actor: str, why: str | None = None) -> bool:
        """Delete a route; False when there is none."""
        with self._database.write() as connection:
            known = _get(connection, name, to_write=True)
            if known is None:
                return False
            connection.execute(delete(routes).where(routes.c.name == name))
            now = events.record(
                connection,
                actor=actor,
                action="route.delete",
                subject=name,
                why=why,
                generation_before=known.generation,
                before=known.spec.model_dump(mode="json"),
            )
            epochs.begin(connection, name, {}, generation=now)
            connection.execute(delete(findings).where(findings.c.route == name))
            return True


def _action(before: RouteStatus, after: RouteStatus) -> str | None:
    """Return the event of a change that is no flip; None when it is not worth one."""
    if before.state != after.state:
        return f"route.{after.state}"
    was, now = (status.canary and (status.canary.state, status.canary.step) for status in (before, after))
    return "route.canary" if was != now else None


def _preparing(known: Route | None, spec: RouteSpec) -> RouteStatus:
    """Return the status of a new spec. A canary on whose terms nothing has changed goes on."""
    if known is None:
        return RouteStatus()
    gone: dict[str, Any] = {"canary_step": None, "canary": None}
    same = (known.spec.arms, known.spec.canary) == (spec.arms, spec.canary)
    return known.status.model_copy(update={"state": "preparing", "reason": None, **({} if same else gone)})


def _get(connection: Connection, name: str, *, to_write: bool = False) -> Route | None:
    """Read a route; `to_write` holds off other writers of it until the transaction ends."""
    query = select(routes).where(routes.c.name == name)
    row = connection.execute(query.with_for_update() if to_write else query).one_or_none()
    return None if row is None else _route(row)


def _parsed(name: str, generation: int, spec: str, status: str) -> Route:
    try:
        return Route(
            name=name,
            spec=RouteSpec.model_validate_json(spec),
            generation=generation,
            status=RouteStatus.model_validate_json(status),
        )
    except ValidationError:
        return read_route(name, generation, json.loads(spec), json.loads(status))


def _route(row: Any) -> Route:
    return read_route(row.name, row.generation, row.spec, row.status)
