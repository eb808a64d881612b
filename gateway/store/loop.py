"""Runs of the loop, and which routes' loops are paused.

A run is changed by whoever knows its revision, so that a person's word and the controller's step never undo
each other. What the controller writes carries its epoch. Each change of state is an event of the route.
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, func, insert, or_, select, update

from gateway.core.curation import new_since
from gateway.core.loop import LoopPolicy
from gateway.loops.results import lacking
from gateway.loops.rules import WEEK_S
from gateway.loops.run import Run
from gateway.store import events
from gateway.store.database import Database, WrittenMeanwhile
from gateway.store.lease import require_epoch
from gateway.store.schema import drift, loop_routes, loop_runs

SEQUENTIAL = "sequential"
RETRAIN = "retrain"
_GOES_ON: Mapping[str, Any] = MappingProxyType({"paused_at": None, "paused_by": None, "why": None})


class RunUnderWay(Exception):
    """The route has an open run already; `run` is its id where that is known."""

    def __init__(self, run: str | None = None) -> None:
        super().__init__(f"a run is under way{f': {run}' if run else ''}")
        self.run = run


@dataclass(frozen=True, slots=True)
class LoopRoute:
    """What is known of a route's loop besides its policy. Times are seconds since the epoch."""

    route: str
    seen_at: float
    paused_at: float | None = None
    paused_by: str | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A look of the sequential detector at a route. `since`: from when on its traffic is new."""

    id: int
    route: str
    at: float
    cause: str
    since: float = 0.0


TICK_S = 0.001
"""What parts two runs of a route that the clock does not."""


@dataclass(frozen=True, slots=True)
class PastRow:
    """A run as far as it bears on the next one; `lacks` as `gateway.loops.results.lacking` says."""

    id: str
    route: str
    created_at: float
    ended_at: float | None
    drift_id: int | None
    state: str
    verdict: str | None
    lacks: float | None = None

    @property
    def in_vain(self) -> bool:
        """Whether it ended for want of rows: to train on, or new ones to judge by."""
        return self.state == "too_little_data" or self.lacks is not None


def new_id(now: float | None = None) -> str:
    """Return a run's id; ids sort by time."""
    moment = time.gmtime(now)
    return f"loop-{time.strftime('%Y%m%d-%H%M%S', moment)}-{uuid.uuid4().hex[:6]}"


class Loops:
    """The tables of the loop."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, run: Run, *, why: str | None = None, epoch: int | None = None, actor: str = "") -> Run:
        """Store a new run, and return it as it is stored.

        Its beginning lies after that of the route's last one, also where the clock has fallen since: `past`
        goes by it, and a run with a stamp far above the others would hide them from the rules.

        Raises:
            RunUnderWay: the route has an open one.
            LeaseLost: `epoch` is given and no longer the controller's.
        """
        try:
            with self._database.write() as connection:
                if epoch is not None:
                    require_epoch(connection, epoch)
                known = _open_of(connection, run.route)
                if known is not None:
                    raise RunUnderWay(known)
                run = replace(run, created_at=_after_the_last(connection, run))
                connection.execute(insert(loop_runs).values(**_values(run)))
                _say(connection, run, actor=actor or run.actor, why=why or run.reason, before=None)
        except WrittenMeanwhile as error:
            raise RunUnderWay from error
        return run

    def change(
        self,
        run: Run,
        *,
        actor: str,
        epoch: int | None = None,
        why: str | None = None,
        action: str | None = None,
        **fields: Any,
    ) -> Run | None:
        """Change fields of a run as it was read; None when it has been changed meanwhile.

        A new state is an event named after it, with `why` or the run's reason; `action` names one for any
        other change.

        Raises:
            LeaseLost: `epoch` is given and no longer the controller's.
        """
        values = {**fields, "revision": run.revision + 1}
        with self._database.write() as connection:
            if epoch is not None:
                require_epoch(connection, epoch)
            done = connection.execute(
                update(loop_runs)
                .where(loop_runs.c.id == run.id, loop_runs.c.revision == run.revision)
                .values(**values)
            )
            if done.rowcount == 0:
                return None
            changed = _run(connection.execute(select(loop_runs).where(loop_runs.c.id == run.id)).one())
            if changed.state != run.state or action:
                _say(
                    connection,
                    changed,
                    actor=actor,
                    why=why or changed.reason,
                    before=run,
                    action=action,
                )
            return changed

    def get(self, run: str) -> Run | None:
        """Return one run, or None."""
        with self._database.read() as connection:
            row = connection.execute(select(loop_runs).where(loop_runs.c.id == run)).one_or_none()
        return None if row is None else _run(row)

    def of_candidate(self, label: str) -> Run | None:
        """Return the newest run that made a version, or None."""
        query = select(loop_runs).where(loop_runs.c.candidate == label)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(loop_runs.c.created_at.desc()).limit(1)).one_or_none()
        return None if row is None else _run(row)

    def open(self) -> list[Run]:
        """Return the runs that have not ended, the oldest first."""
        query = select(loop_runs).where(loop_runs.c.ended_at.is_(None))
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query.order_by(loop_runs.c.created_at))]

    def rows(
        self, route: str | None = None, *, limit: int = 100, before: tuple[float, str] | None = None
    ) -> list[Run]:
        """Return runs, the newest first; `before`, the time and id of the last one, pages on."""
        query = select(loop_runs).order_by(loop_runs.c.created_at.desc(), loop_runs.c.id.desc()).limit(limit)
        if route is not None:
            query = query.where(loop_runs.c.route == route)
        if before is not None:
            at, run = before
            same = (loop_runs.c.created_at == at) & (loop_runs.c.id < run)
            query = query.where(or_(loop_runs.c.created_at < at, same))
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query)]

    def past(self) -> dict[str, list[PastRow]]:
        """Return each route's last run, and those that began in the week before it.

        The week is counted from the run itself, and no run begins before an earlier one (`begin`): whatever
        the clock says now, none is missed.
        """
        last = select(loop_runs.c.route, func.max(loop_runs.c.created_at).label("at"))
        newest = last.group_by(loop_runs.c.route).subquery()
        query = (
            select(*(loop_runs.c[name] for name in PastRow.__dataclass_fields__ if name != "lacks"))
            .join(newest, loop_runs.c.route == newest.c.route)
            .where(loop_runs.c.created_at >= newest.c.at - WEEK_S)
        )
        found: dict[str, list[PastRow]] = {}
        with self._database.read() as connection:
            rows = [PastRow(**row._asdict()) for row in connection.execute(query)]
            few = [row.id for row in rows if (row.state, row.verdict) == ("gate_failed", "too_few_rows")]
            lacks = _lacking(connection, few) if few else {}
        for row in rows:
            found.setdefault(row.route, []).append(replace(row, lacks=lacks.get(row.id)))
        return found

    def promoted(self, route: str) -> list[Run]:
        """Return a route's runs whose version was promoted, the newest first."""
        query = select(loop_runs).where(loop_runs.c.route == route, loop_runs.c.state == "promoted")
        with self._database.read() as connection:
            return [_run(row) for row in connection.execute(query.order_by(loop_runs.c.created_at.desc()))]

    def findings(self) -> dict[str, list[FindingRow]]:
        """Return each route's newest looks of the sequential detector that call for a training, by cause."""
        calls = (drift.c.kind == SEQUENTIAL) & (drift.c.severity == RETRAIN)
        newest = select(func.max(drift.c.id)).where(calls).group_by(drift.c.route, drift.c.cause)
        change_at = drift.c.figures["change_at"].as_float()
        columns = (drift.c.id, drift.c.route, drift.c.at, drift.c.cause, drift.c.looked_from, change_at)
        with self._database.read() as connection:
            rows = connection.execute(select(*columns).where(drift.c.id.in_(newest)).order_by(drift.c.id))
            found: dict[str, list[FindingRow]] = {}
            for row in rows:
                found.setdefault(row[1], []).append(FindingRow(*row[:4], since=new_since(*row[3:])))
            return found

    def routes(self) -> dict[str, LoopRoute]:
        """Return what is known of routes' loops, by route."""
        with self._database.read() as connection:
            rows = connection.execute(select(loop_routes))
            return {row.route: LoopRoute(**row._asdict()) for row in rows}

    def see(self, routes: Sequence[str], *, at: float, epoch: int) -> None:
        """Note when routes were first seen with a loop.

        Raises:
            LeaseLost: `epoch` is no longer the controller's.
        """
        with self._database.write() as connection:
            require_epoch(connection, epoch)
            known = {row.route for row in connection.execute(select(loop_routes.c.route))}
            new = [{"route": route, "seen_at": at} for route in routes if route not in known]
            if new:
                connection.execute(insert(loop_routes), new)

    def pause(self, route: str, *, actor: str, why: str | None = None) -> bool:
        """Have a route's loop begin nothing until it is resumed; False when it is paused already."""
        values = {"paused_at": time.time(), "paused_by": str(actor), "why": why}
        with self._database.write() as connection:
            known = _route_row(connection, route)
            if known is not None and known.paused_at is not None:
                return False
            if known is None:
                seen_at = values["paused_at"]
                connection.execute(insert(loop_routes).values(route=route, seen_at=seen_at, **values))
            else:
                connection.execute(update(loop_routes).where(loop_routes.c.route == route).values(**values))
            _say_paused(connection, "loop.pause", route, actor=actor, why=why, before=_GOES_ON, after=values)
            return True

    def resume(self, route: str, *, actor: str, why: str | None = None) -> bool:
        """Have a paused loop go on; False when it is not paused."""
        with self._database.write() as connection:
            known = _route_row(connection, route)
            if known is None or known.paused_at is None:
                return False
            connection.execute(update(loop_routes).where(loop_routes.c.route == route).values(**_GOES_ON))
            was = {name: getattr(known, name) for name in _GOES_ON}
            _say_paused(connection, "loop.resume", route, actor=actor, why=why, before=was, after=_GOES_ON)
            return True


def _lacking(connection: Connection, runs: Sequence[str]) -> dict[str, float | None]:
    """Return by how much these runs' gates had too few new rows."""
    query = select(loop_runs.c.id, loop_runs.c.results).where(loop_runs.c.id.in_(runs))
    return {row.id: lacking((row.results or {}).get("gate") or {}) for row in connection.execute(query)}


def _route_row(connection: Connection, route: str) -> Any:
    query = select(loop_routes).where(loop_routes.c.route == route)
    return connection.execute(query.with_for_update()).one_or_none()


def _after_the_last(connection: Connection, run: Run) -> float:
    """Return when a run began: now, or where the clock is behind the route's last run, just after that."""
    query = select(func.max(loop_runs.c.created_at)).where(loop_runs.c.route == run.route)
    last = connection.execute(query).scalar_one()
    return run.created_at if last is None else max(run.created_at, last + TICK_S)


def _open_of(connection: Connection, route: str) -> str | None:
    query = select(loop_runs.c.id).where(loop_runs.c.route == route, loop_runs.c.ended_at.is_(None))
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else str(found)


def _say_paused(
    connection: Connection,
    action: str,
    route: str,
    *,
    actor: str,
    why: str | None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> None:
    events.record(
        connection, actor=actor, action=action, subject=route, why=why, before=dict(before), after=dict(after)
    )


def _say(
    connection: Connection,
    run: Run,
    *,
    actor: str,
    why: str | None,
    before: Run | None,
    action: str | None = None,
) -> None:
    events.record(
        connection,
        actor=actor,
        action=action or f"loop.{run.state}",
        subject=run.route,
        why=why,
        before=None if before is None else _document(before),
        after=_document(run),
    )


def _document(run: Run) -> dict[str, Any]:
    """Return a run as the audit log shows it."""
    return {
        "run": run.id,
        "state": run.state,
        "trigger": run.trigger,
        "cause": run.cause,
        "champion": run.champion,
        "candidate": run.candidate,
        "drift": run.drift_id,
        "approvals": dict(run.approvals),
        "stop": None if run.stop is None else dict(run.stop),
    }


def _values(run: Run) -> dict[str, Any]:
    values = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    values["policy"] = run.policy.model_dump(mode="json")
    values["actor"] = str(run.actor)
    return values


def _run(row: Any) -> Run:
    values = row._asdict()
    return Run(**{**values, "policy": policy_of(values["policy"])})


def policy_of(document: Any) -> LoopPolicy:
    """Return a stored policy; of one that another release wrote, what can be read of it."""
    try:
        return LoopPolicy.model_validate(document)
    except ValidationError:
        known = document if isinstance(document, dict) else {}
        good = {name: value for name, value in known.items() if _is_good(name, value)}
        try:
            return LoopPolicy.model_validate({**good, "approve": "always"})
        except ValidationError:
            return LoopPolicy(approve="always")


def _is_good(name: str, value: Any) -> bool:
    try:
        LoopPolicy.model_validate({name: value})
    except ValidationError:
        return False
    return True
