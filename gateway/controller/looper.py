"""Takes the runs of the loop on, beside the controller's turns: starts what is called for, and steps on.

What a run does next follows from the store, the routes and the folders of runs alone (`gateway.loops`), so a
controller that was killed at any moment is followed by one that does the same. The work of a step is done by
a process of its own (`looping.processes`); a look takes milliseconds, in a thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.controller.clock import Clock
from gateway.controller.looping.processes import Processes
from gateway.controller.looping.watcher import Watcher
from gateway.core.routes import Route, RouteSpec
from gateway.loops import rules
from gateway.loops.ages import Ages
from gateway.loops.best import best_of
from gateway.loops.moves import next_move
from gateway.loops.rollout import placed, settled, with_canary, with_shadow, without
from gateway.loops.rules import Begin
from gateway.loops.run import ENDS, Run
from gateway.loops.sight import Move, Seen, Step
from gateway.store.control import ControlStore, Snapshot
from gateway.store.database import StoreUnavailable
from gateway.store.lease import LeaseLost
from gateway.store.loop import LoopRoute, RunUnderWay, new_id
from gateway.store.loop_due import due
from gateway.store.routes import GenerationMismatch
from gateway.store.uses import VersionsNotActive

log = logging.getLogger(__name__)

ACTOR = "loop"
FAILED_PAUSE_S = 10.0
MOVES_AT_ONCE = 8
"""So far a run may get in one look; more can only be a fault of the rules."""


@dataclass(frozen=True, slots=True)
class LooperConfig:
    """How often runs are looked at (seconds), and how many may work at once in the whole fleet."""

    every_s: float = 2.0
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """What a looper starts on its machine: the steps of runs, and the drift monitor where it is to."""

    processes: Processes
    watcher: Watcher | None = None


@dataclass
class _Sight:
    """What one look has read: of all runs together, and of the routes."""

    epoch: int
    routes: Mapping[str, Route]
    known: Mapping[str, LoopRoute]
    working: int


class Looper:
    """The loop of one controller.

    `check` raises LeaseLost unless an epoch's term is running; `left_s` says how long it still runs.
    """

    def __init__(
        self,
        store: ControlStore,
        machine: Machine,
        *,
        check: Callable[[int], None],
        left_s: Callable[[int], float],
        config: LooperConfig = LooperConfig(),
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> None:
        self.failed_looks = 0
        self._store = store
        self._processes = machine.processes
        self._watcher = machine.watcher
        self._check = check
        self._left_s = left_s
        self._config = config
        self._clock = clock
        self._ages = Ages(clock.wall, clock.monotonic)
        self._due = 0.0
        self._looking: asyncio.Task[None] | None = None

    def start(self, snapshot: Snapshot, epoch: int) -> None:
        """Begin to look when that is due, unless the last look is still under way."""
        if self._watcher is not None:
            self._watcher.start()
        now = self._clock.monotonic()
        if self._looking is None and now >= self._due:
            self._due = now + self._config.every_s
            work = asyncio.to_thread(self.look, snapshot.routes, epoch)
            self._looking = asyncio.create_task(work, name="loop")
            self._looking.add_done_callback(self._done)

    async def stop(self) -> None:
        """End the look that is under way, and the monitor. Steps work on, for whoever is effective next."""
        if self._watcher is not None:
            await asyncio.to_thread(self._watcher.stop)
        task = self._looking
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def close(self) -> None:
        """End the steps too, with the process: the next controller begins them again."""
        await asyncio.to_thread(self._processes.close)

    def look(self, routes: tuple[Route, ...], epoch: int) -> None:
        """Look once at every run, and begin those that are called for.

        Raises:
            LeaseLost: another controller is effective.
            StoreUnavailable: the store can't be reached.
        """
        opened = self._store.loops.open()
        looped = {route.name: route for route in routes if route.spec.loop is not None}
        if not opened and not looped:
            return
        sight = _Sight(
            epoch=epoch,
            routes={route.name: route for route in routes},
            known=self._store.loops.routes(),
            working=sum(run.working for run in opened),
        )
        for run in opened:
            self._advance_safely(run, sight)
        if looped:
            self._begin_all(looped, {run.route for run in opened}, sight)
        self._ages.forget()

    def _advance_safely(self, run: Run, sight: _Sight) -> None:
        """Take one run on. What goes wrong with one holds up no other."""
        try:
            self._advance(run, sight)
        except OSError as error:
            self._note(run, f"{run.state} waits: {error.strerror or error}", sight)
        except (LeaseLost, StoreUnavailable):
            raise
        except Exception:
            self.failed_looks += 1
            log.exception("the run %s of route %s can't be taken on", run.id, run.route)

    def _advance(self, run: Run, sight: _Sight) -> None:
        known: Run | None = run
        for _ in range(MOVES_AT_ONCE):
            if known is None or not known.open:
                return
            seen = self._seen(known, sight)
            known = self._placing_noted(known, seen, sight)
            if known is None:
                return
            move = next_move(known, seen)
            if move.act is None and move.to is None:
                self._note(known, move.reason, sight)
                return
            known = self._made(known, move, sight)

    def _placing_noted(self, run: Run, seen: Seen, sight: _Sight) -> Run | None:
        """Note that the candidate is on its route where a crash came between; None when the run has changed.

        Else a person who takes it out later would not be told from a run that has yet to put it there.
        """
        if run.generation is not None or seen.route is None or not placed(run, seen.route):
            return run
        return self._store.loops.change(run, actor=ACTOR, epoch=sight.epoch, generation=seen.route.generation)

    def _seen(self, run: Run, sight: _Sight) -> Seen:
        step = self._step(run)
        route = self._store.routes.get(run.route)
        paused = sight.known.get(run.route)
        self._ages.of((run.id, "begun"), run.created_at)  # met now, so that no jump from here on counts
        return Seen(
            age_s=self._ages.of((run.id, run.state), run.since),
            route=route,
            step=step,
            place=run.working or sight.working < self._config.at_once,
            paused=paused is not None and paused.paused_at is not None,
            unreviewed=self._unreviewed(run),
        )

    def _step(self, run: Run) -> Step:
        step = self._processes.see(run)
        if step.state != "died":
            return step
        return replace(step, age_s=self._ages.since_met((run.id, "died", run.starts)))

    def _unreviewed(self, run: Run) -> int | None:
        if run.state != "waiting_review":
            return None
        counts = self._store.curation.counts(run.route).get(run.route, {})
        return sum(states.get("proposed", 0) for states in counts.values())

    def _made(self, run: Run, move: Move, sight: _Sight) -> Run | None:
        """Make a move; the run as it is then, or None when this look can do no more for it."""
        if move.act == "start":
            return self._start(run, move, sight)
        if move.act == "kill":
            self._check(sight.epoch)
            self._processes.end(run)
            return None
        if move.act is not None and not self._on_route(run, move, sight):
            return None
        return self._go(run, move, sight) if move.to is not None else self._store.loops.get(run.id)

    def _start(self, run: Run, move: Move, sight: _Sight) -> Run | None:
        again = move.reason is not None
        attempt = run.attempt + 1 if again else max(1, run.attempt)

        def begun() -> Run | None:
            known = self._store.loops.change(
                run,
                actor=ACTOR,
                epoch=sight.epoch,
                why=move.reason,
                action="loop.retry" if again else None,
                starts=run.starts + 1,
                attempt=attempt,
                host=self._processes.host,
                reason=move.reason or run.reason,
            )
            self._check(sight.epoch)
            return known

        self._check(sight.epoch)
        not_after = time.monotonic() + self._left_s(sight.epoch)
        known = self._processes.start(run, not_after=not_after, best=self._best(run), begun=begun)
        if known is not None:
            log.info("%s of route %s: %s began (start %d)", run.id, run.route, run.state, known.starts)
        return None  # it has only just begun

    def _best(self, run: Run) -> str | None:
        """Return the best version ever, for the gate: of those that are still there."""
        if run.state != "gating":
            return None
        there = {str(ref) for ref in self._store.versions.active()}
        return best_of(self._store.loops.promoted(run.route), champion=run.champion, there=there)

    def _on_route(self, run: Run, move: Move, sight: _Sight) -> bool:
        """Change the route's spec as the move wants it; False when it was changed meanwhile."""
        route = self._store.routes.get(run.route)
        if route is None:
            return True
        made = _SPECS[str(move.act)](route.spec, run)
        try:
            route, _ = self._store.routes.put(
                route.name,
                made,
                actor=ACTOR,
                why=f"{run.id}: {move.reason or move.act}",
                if_generation=route.generation,
                active_versions_only=move.act != "clear",
                epoch=sight.epoch,
            )
        except GenerationMismatch:
            return False
        except VersionsNotActive as error:
            ended = Move("failed", f"a version is not there any more: {error}")
            self._go(run, ended, sight)
            return False
        if move.to is None:
            self._store.loops.change(run, actor=ACTOR, epoch=sight.epoch, generation=route.generation)
        return True

    def _go(self, run: Run, move: Move, sight: _Sight) -> Run | None:
        now = self._clock.wall()
        ended = move.to in ENDS
        more: dict[str, Any] = {**move.updates, **({"ended_at": now} if ended else {})}
        known = self._store.loops.change(
            run,
            actor=ACTOR,
            epoch=sight.epoch,
            why=move.reason,
            state=move.to,
            since=now,
            attempt=0,
            generation=None,
            reason=move.reason,
            **more,
        )
        if known is None:
            return None
        sight.working += int(known.working) - int(run.working)
        log.info("%s of route %s is %s: %s", run.id, run.route, known.state, known.reason)
        if ended:
            self._ages.of((run.id, "ended"), now)
            self._processes.forget(run)
        return known

    def _note(self, run: Run, reason: str | None, sight: _Sight) -> None:
        if reason is not None and reason != run.reason:
            self._store.loops.change(run, actor=ACTOR, epoch=sight.epoch, reason=reason)

    # ── runs that begin ─────────────────────────────────────────────────────────────────────────────────

    def _begin_all(self, looped: Mapping[str, Route], busy: set[str], sight: _Sight) -> None:
        unseen = [name for name in looped if name not in sight.known]
        if unseen:
            self._store.loops.see(unseen, at=self._clock.wall(), epoch=sight.epoch)
        past, findings = self._store.loops.past(), self._store.loops.findings()
        for name, route in looped.items():
            known = sight.known.get(name)
            if name in busy or known is None:
                continue
            decided = due(
                self._store, route, known, past.get(name, []), findings.get(name, []), age=self._ages.of
            )
            if isinstance(decided, Begin):
                self._begin(route, decided, sight)

    def _begin(self, route: Route, decided: Begin, sight: _Sight) -> None:
        champion, policy = rules.champion_of(route), route.spec.loop
        if champion is None or policy is None:
            return
        now = self._clock.wall()
        finding = decided.finding
        run = Run(
            id=new_id(now),
            route=route.name,
            trigger=decided.trigger,
            cause=decided.cause,
            actor=ACTOR,
            policy=policy,
            state="proposed",
            since=now,
            created_at=now,
            champion=champion,
            reason=decided.reason,
            drift_id=finding.id if finding else None,
            drift_at=now - finding.age_s if finding else None,
        )
        try:
            self._store.loops.begin(run, epoch=sight.epoch)
        except RunUnderWay:
            return
        log.info("%s of route %s is proposed: %s", run.id, run.route, run.reason)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._looking = None
        error = None if task.cancelled() else task.exception()
        if error is None or isinstance(error, LeaseLost):
            return  # the controller meets a lost lease as well, and drops everything
        self.failed_looks += 1
        self._due = self._clock.monotonic() + FAILED_PAUSE_S
        if isinstance(error, StoreUnavailable):
            log.warning("the runs of the loop can't be looked at: %s", error)
        else:
            log.error("looking at the runs of the loop failed", exc_info=error)


_SPECS: Mapping[str, Callable[[RouteSpec, Run], RouteSpec]] = {
    "shadow": with_shadow,
    "canary": with_canary,
    "settle": settled,
    "clear": without,
}
