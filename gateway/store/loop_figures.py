"""What the loop's runs, the rows that wait for a review and the golden sets' uses add up to, for metrics."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select

from gateway.loops.run import Run
from gateway.store.database import Database
from gateway.store.loop import Loops, policy_of
from gateway.store.schema import curated_rows, golden_sets, golden_uses, loop_runs, routes

_HAS_LOOP = routes.c.spec["loop"].as_string().is_not(None)


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """Counts and times of runs, by route. Times are seconds since the epoch.

    `runs` counts by route, trigger and state, `verdicts` by route and the gate's verdict; `ended` says when
    the last run with each end ended; `failures` how many runs have failed in a row; `took_s` how many seconds
    the last promoted version took since the look that found drift; `to_review` how many curated rows wait for
    a person.

    Of routes that have a loop: `gate_failures` how many runs the gate has ended since one got past it, with
    those between that never came to it left out; `golden_left` how often the present golden set may still be
    used before its rotation is asked for, below 0 when it was used beyond that.
    """

    open: tuple[Run, ...] = ()
    paused: frozenset[str] = frozenset()
    runs: tuple[tuple[str, str, str, int], ...] = ()
    verdicts: tuple[tuple[str, str, int], ...] = ()
    ended: tuple[tuple[str, str, float], ...] = ()
    failures: tuple[tuple[str, int], ...] = ()
    gate_failures: tuple[tuple[str, int], ...] = ()
    took_s: tuple[tuple[str, float], ...] = ()
    to_review: tuple[tuple[str, int], ...] = ()
    golden_left: tuple[tuple[str, int], ...] = ()


def read(loops: Loops, database: Database) -> LoopFigures:
    """Read the figures.

    Raises:
        StoreUnavailable: the store can't be reached.
    """
    run = loop_runs.c
    kinds = select(run.route, run.trigger, run.state, func.count()).group_by(
        run.route, run.trigger, run.state
    )
    verdicts = select(run.route, run.verdict, func.count()).where(run.verdict.is_not(None))
    ended = select(run.route, run.state, func.max(run.ended_at)).where(run.ended_at.is_not(None))
    failures = _in_a_row("failed", until=run.ended_at.is_not(None))
    refused = _in_a_row("gate_failed", until=run.verdict.is_not(None))
    gate_failures = refused.where(run.route.in_(select(routes.c.name).where(_HAS_LOOP)))
    drifted = (run.state == "promoted") & run.drift_at.is_not(None)
    last = select(func.max(run.created_at)).where(drifted).group_by(run.route)
    took = select(run.route, run.ended_at - run.drift_at).where(drifted, run.created_at.in_(last))
    waits = func.sum(case((curated_rows.c.state == "proposed", 1), else_=0))
    to_review = select(curated_rows.c.route, waits).group_by(curated_rows.c.route)
    with database.read() as connection:
        return LoopFigures(
            open=tuple(loops.open()),
            paused=frozenset(name for name, route in loops.routes().items() if route.paused_at is not None),
            runs=tuple((r, t, s, n) for r, t, s, n in connection.execute(kinds)),
            verdicts=tuple(
                (r, v, n) for r, v, n in connection.execute(verdicts.group_by(run.route, run.verdict))
            ),
            ended=tuple((r, s, at) for r, s, at in connection.execute(ended.group_by(run.route, run.state))),
            failures=tuple((r, n) for r, n in connection.execute(failures)),
            gate_failures=tuple((r, n) for r, n in connection.execute(gate_failures)),
            took_s=tuple((r, s) for r, s in connection.execute(took)),
            to_review=tuple((r, int(n)) for r, n in connection.execute(to_review)),
            golden_left=tuple(
                (r, policy_of(loop).golden_uses - n) for r, loop, n in connection.execute(_golden())
            ),
        )


def _in_a_row(state: str, *, until: ColumnElement[bool]) -> Select[Any]:
    """Count the runs in a state that began after the last one that is `until` and not in that state."""
    run = loop_runs.c
    other = (
        select(run.route, func.max(run.created_at).label("at"))
        .where(until, run.state != state)
        .group_by(run.route)
        .subquery()
    )
    return (
        select(run.route, func.count())
        .outerjoin(other, other.c.route == run.route)
        .where(run.state == state, run.created_at > func.coalesce(other.c.at, 0.0))
        .group_by(run.route)
    )


def _golden() -> Select[Any]:
    """Select the present golden sets of routes that have a loop: the route, its policy, the set's uses."""
    which, use = golden_sets.c, golden_uses.c
    uses = select(func.count()).where(use.route == which.route, use.number == which.number)
    return (
        select(which.route, routes.c.spec["loop"], uses.scalar_subquery())
        .join(routes, routes.c.name == which.route)
        .where(which.retired_at.is_(None), _HAS_LOOP)
    )
