"""`/admin/loop`: what the loop does and did, and a person's hand on it.

Commands are written at once and take effect with the controller's next look, so that they also work while no
controller does.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Limit, Why, faults
from gateway.api.loop_schemas import LoopOfRoute, LoopPage, RunsPage, RunSummary, RunView
from gateway.core.routes import Route
from gateway.core.who import Who
from gateway.errors import Conflict, NotFound
from gateway.loops import rules
from gateway.loops.rollout import placed
from gateway.loops.rules import NotNow
from gateway.loops.run import Run
from gateway.store.control import ControlStore
from gateway.store.loop import FindingRow, LoopRoute, PastRow, RunUnderWay, new_id
from gateway.store.loop_due import due, past_of

ATTEMPTS = 5


class LoopEndpoints:
    """The endpoints, on one store. `root` is where runs have their folders."""

    def __init__(self, control: ControlStore, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._control = control
        self._root = root
        self._clock = clock

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/loop", self.every, methods=["GET"], responses=faults())
        router.add_api_route("/loop/runs", self.history, methods=["GET"], responses=faults(404))
        router.add_api_route("/loop/{run}", self.show, methods=["GET"], responses=faults(404))
        for decide in (self.approve, self.reject):
            path = f"/loop/{{run}}/{decide.__name__}"
            router.add_api_route(path, decide, methods=["POST"], responses=faults(404, 409))
        for command in (self.pause, self.resume):
            path = f"/loop/{{route}}/{command.__name__}"
            router.add_api_route(path, command, methods=["POST"], responses=faults(404, 409))
        router.add_api_route(
            "/loop/{route}/run", self.run, methods=["POST"], status_code=202, responses=faults(404, 409)
        )

    def every(self, route: Annotated[str | None, Query(max_length=64)] = None) -> LoopPage:
        """Show how the loop of each route stands that has one, or of one route."""
        looped = [known for known in self._control.routes.rows() if known.spec.loop is not None]
        loops = self._control.loops
        known, past, findings = loops.routes(), loops.past(), loops.findings()
        opened = {run.route: run for run in loops.open()}
        return LoopPage(
            data=tuple(
                self._of_route(
                    each, known.get(each.name), past.get(each.name, []), findings.get(each.name, []), opened
                )
                for each in looped
                if route in (None, each.name)
            )
        )

    def history(
        self,
        route: Annotated[str | None, Query(max_length=64)] = None,
        limit: Limit = 100,
        before: Annotated[str | None, Query(max_length=64, description="a run's id")] = None,
    ) -> RunsPage:
        """List runs, the newest first, of one route or of all; runs of routes that are gone too."""
        last = None if before is None else self._get(before)
        place = None if last is None else (last.created_at, last.id)
        rows = self._control.loops.rows(route, limit=limit + 1, before=place)
        more = rows[limit - 1].id if len(rows) > limit else None
        return RunsPage(data=tuple(_summary(row) for row in rows[:limit]), next_before=more)

    def show(self, run: str) -> RunView:
        """Show one run with what its steps said."""
        return self._view(self._get(run))

    def approve(self, run: str, actor: Actor, why: Why) -> RunView:
        """Approve what a run waits for: that it trains, or that its version meets traffic."""

        def change(known: Run) -> dict[str, Any] | None:
            asks = known.asks
            if asks is None:
                raise Conflict(f"{known.id} is {known.state}, and asks for nothing", code="loop_state")
            if known.stop is not None:
                raise Conflict(f"{known.id} was rejected meanwhile", code="loop_state")
            if asks in known.approvals:
                return None
            return {"approvals": {**known.approvals, asks: self._said(actor, why)}}

        return self._decide(run, change, actor=actor, why=why, action="loop.approve")

    def reject(self, run: str, actor: Actor, why: Why) -> RunView:
        """End a run: what works for it is ended, and its version gets no traffic. The cooldown begins."""

        def change(known: Run) -> dict[str, Any] | None:
            if not known.open:
                raise Conflict(f"{known.id} has ended: it is {known.state}", code="loop_state")
            route = self._control.routes.get(known.route)
            if known.state == "canary" and route is not None and placed(known, route):
                raise Conflict(
                    f"{known.candidate} meets traffic; POST /admin/routes/{known.route}/abort sends it back",
                    code="loop_state",
                )
            return None if known.stop is not None else {"stop": self._said(actor, why)}

        return self._decide(run, change, actor=actor, why=why, action="loop.reject")

    def pause(self, route: str, actor: Actor, why: Why) -> LoopOfRoute:
        """Begin no run of a route, and no further step of one, until it is resumed."""
        self._looped(route)
        self._control.loops.pause(route, actor=actor, why=why)
        return self._one(route)

    def resume(self, route: str, actor: Actor, why: Why) -> LoopOfRoute:
        """Go on with a loop that is paused."""
        self._looped(route)
        self._control.loops.resume(route, actor=actor, why=why)
        return self._one(route)

    def run(self, route: str, actor: Actor, why: Why) -> RunView:
        """Begin a run now, cooldown or not. The budget of the week holds for it too."""
        known = self._looped(route)
        policy, champion = known.spec.loop, rules.champion_of(known)
        unfit = rules.unfit(known)
        if policy is None or champion is None or unfit:
            raise Conflict(f"no run of {route!r} can begin: {unfit}", code="loop_unfit")
        state = self._control.loops.routes().get(route)
        if state is not None and state.paused_at is not None:
            raise Conflict(f"the loop of {route!r} is paused; resume it first", code="loop_paused")
        past = [past_of(row, self._age) for row in self._control.loops.past().get(route, [])]
        against = rules.may_begin(policy, past, by_hand=True)
        if against is not None:
            raise Conflict(f"no run of {route!r} can begin: {against.reason}", code="loop_not_now")
        now = self._clock()
        begun = Run(
            id=new_id(now),
            route=route,
            trigger="manual",
            cause="manual",
            actor=actor,
            policy=policy,
            state="proposed",
            since=now,
            created_at=now,
            champion=champion,
            reason=why or "a person asked for it",
        )
        try:
            return self._view(self._control.loops.begin(begun, actor=actor, why=why))
        except RunUnderWay as error:
            raise Conflict(f"no run of {route!r} can begin: {error}", code="loop_not_now") from error

    def _decide(
        self,
        name: str,
        change: Callable[[Run], dict[str, Any] | None],
        *,
        actor: Who,
        why: str | None,
        action: str,
    ) -> RunView:
        for _ in range(ATTEMPTS):
            known = self._get(name)
            fields_ = change(known)
            if fields_ is None:
                return self._view(known)
            done = self._control.loops.change(known, actor=actor, why=why, action=action, **fields_)
            if done is not None:
                return self._view(done)
        raise Conflict(f"{name} is being changed; try again in a moment", code="busy")

    def _said(self, actor: Who, why: str | None) -> dict[str, Any]:
        return {"by": actor.name or str(actor), "key": str(actor), "at": self._clock(), "why": why}

    def _one(self, route: str) -> LoopOfRoute:
        return self.every(route).data[0]

    def _of_route(
        self,
        route: Route,
        known: LoopRoute | None,
        past: list[PastRow],
        found: list[FindingRow],
        opened: Mapping[str, Run],
    ) -> LoopOfRoute:
        assert route.spec.loop is not None  # noqa: S101 - the caller looked
        last = max(past, key=lambda row: row.created_at, default=None)
        ended = self._control.loops.get(last.id) if last is not None and last.ended_at is not None else None
        run = opened.get(route.name)
        waits = None if run is not None else self._waits(route, known, past, found)
        return LoopOfRoute(
            route=route.name,
            policy=route.spec.loop,
            paused_at=known.paused_at if known else None,
            paused_by=known.paused_by if known else None,
            why=known.why if known else None,
            run=None if run is None else _summary(run),
            last=None if ended is None else _summary(ended),
            waits=waits.reason if waits else None,
            wait_s=waits.wait_s if waits else None,
        )

    def _waits(
        self, route: Route, known: LoopRoute | None, past: list[PastRow], found: list[FindingRow]
    ) -> NotNow | None:
        decided = due(self._control, route, known, past, found, age=self._age)
        return decided if isinstance(decided, NotNow) else None

    def _age(self, _key: Hashable, stamp: float) -> float:
        return max(0.0, self._clock() - stamp)

    def _get(self, run: str) -> Run:
        known = self._control.loops.get(run)
        if known is None:
            raise NotFound(f"there is no run {run[:64]!r}", code="run_not_found", param="run")
        return known

    def _looped(self, route: str) -> Route:
        known = self._control.routes.get(route)
        if known is None:
            raise NotFound(f"there is no route {route[:64]!r}", code="route_not_found", param="route")
        if known.spec.loop is None:
            raise Conflict(f"the spec of {route!r} has no loop; put one there first", code="no_loop")
        return known

    def _view(self, run: Run) -> RunView:
        return RunView(
            **_summary(run).model_dump(),
            approvals=dict(run.approvals),
            stop=None if run.stop is None else dict(run.stop),
            results=dict(run.results),
            policy=run.policy,
            folder=str(self._root / run.id),
        )


def _summary(run: Run) -> RunSummary:
    known = {field.name for field in fields(Run)} | {"asks"}
    return RunSummary(**{name: getattr(run, name) for name in RunSummary.model_fields if name in known})
