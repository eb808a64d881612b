"""What the loop's runs, and the rows that wait for a review, add up to: read in the database, for metrics."""

from dataclasses import dataclass

from sqlalchemy import case, func, select

from gateway.loops.run import Run
from gateway.store.database import Database
from gateway.store.loop import Loops
from gateway.store.schema import curated_rows, loop_runs


@dataclass(frozen=True, slots=True)
class LoopFigures:
    """Counts and times of runs, by route. Times are seconds since the epoch.

    `runs` counts by route, trigger and state, `verdicts` by route and the gate's verdict; `ended` says when
    the last run with each end ended; `failures` how many runs have failed in a row; `took_s` how many seconds
    the last promoted version took since the look that found drift; `to_review` how many curated rows wait for
    a person.
    """

    open: tuple[Run, ...] = ()
    paused: frozenset[str] = frozenset()
    runs: tuple[tuple[str, str, str, int], ...] = ()
    verdicts: tuple[tuple[str, str, int], ...] = ()
    ended: tuple[tuple[str, str, float], ...] = ()
    failures: tuple[tuple[str, int], ...] = ()
    took_s: tuple[tuple[str, float], ...] = ()
    to_review: tuple[tuple[str, int], ...] = ()


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
    good = (
        select(run.route, func.max(run.created_at).label("at"))
        .where(run.ended_at.is_not(None), run.state != "failed")
        .group_by(run.route)
        .subquery()
    )
    failures = (
        select(run.route, func.count())
        .outerjoin(good, good.c.route == run.route)
        .where(run.state == "failed", run.created_at > func.coalesce(good.c.at, 0.0))
        .group_by(run.route)
    )
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
            took_s=tuple((r, s) for r, s in connection.execute(took)),
            to_review=tuple((r, int(n)) for r, n in connection.execute(to_review)),
        )
