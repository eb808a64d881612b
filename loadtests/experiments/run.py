"""`make bench-experiments`: do the statistics of experiments keep what they promise, and what do they cost?

Simulated experiments with fixed seeds, on the functions that the product itself calls: false positives of
equal arms looked at after every unit, coverage, false roll-backs, how soon a worse candidate is stopped,
power beside a test that looks once, unequal rating rates, mismatched shares, and assignment.
"""

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import quantiles
from typing import Any

from rich.console import Console

from gateway.experiments.plan import units_needed
from loadtests.common.report import Sheet, console_for_people, number, publish
from loadtests.experiments.assignment import assignment
from loadtests.experiments.studies import (
    ALPHA,
    MISSING,
    Effect,
    Harm,
    covered,
    false_positive,
    found_after,
    missing,
    rolled_back,
    suspected_after,
    units_to_stop,
)
from loadtests.experiments.worlds import EFFECTS, EQUAL

BENCH = "bench-experiments"
UNITS = 1000
MIN_UNITS = 60
CANARIES = ("equal", "equal_zero_limits", "at_the_limits")
HARMS = {
    "errors": [Harm(0.01, points) for points in (2, 5, 10)],
    "errors_beyond_2": [Harm(0.01, points, limit=0.02) for points in (5, 10)],
    "disliked": [Harm(0.3, points) for points in (2, 5, 10)],
    "all_fail": [Harm(0.01, 99)],
}
POWER = {"5_points": Effect(0.05), "10_points": Effect(0.1), "10_points_share_5": Effect(0.1, 0.7, 0.05)}
LOST = (0.0, 0.1, 0.2)
MAIN = ("share_5", "ramps", "recurring_again", "recurring_once", "delayed")
_MOST_TO_STOP = 300_000
_HORIZONS = 4
_CHUNKS = 16


@dataclass(frozen=True)
class Size:
    """How many experiments of each kind: `equal` in `MAIN` worlds of equal arms, `equal_other` in others."""

    equal: int
    equal_other: int
    other: int
    canaries: int
    harms: int
    power: int
    missing: int
    routes: int


FULL = Size(
    equal=10_000,
    equal_other=2_000,
    other=1_000,
    canaries=1_500,
    harms=100,
    power=300,
    missing=100,
    routes=400,
)
QUICK = Size(equal=200, equal_other=100, other=100, canaries=60, harms=10, power=30, missing=10, routes=100)


class Work:
    """Runs experiments on every core, and says what it does."""

    def __init__(self, pool: ProcessPoolExecutor, console: Console) -> None:
        self._pool = pool
        self._console = console

    def run(self, what: str, one: Callable[[int], Any], count: int) -> list[Any]:
        """Return the results of experiments 0 to `count` - 1."""
        self._console.print(f"[dim]{what}: {count:,} experiments[/dim]")
        return list(self._pool.map(one, range(count), chunksize=max(1, count // _CHUNKS)))


def measure(work: Work, size: Size) -> dict[str, Any]:
    """Return every figure."""
    equal = {
        world: work.run(
            f"equal arms, {world}",
            partial(false_positive, world, units=UNITS),
            size.equal if world in MAIN else size.equal_other,
        )
        for world in EQUAL
    }
    return {
        "alpha": ALPHA,
        "experiments": vars(size),
        "false_positive_rate": {
            world: _share(one.product for one in looked) for world, looked in equal.items()
        },
        "z_test_false_positive_rate": {
            world: _share(one.naive for one in looked) for world, looked in equal.items()
        },
        "false_rollback_rate": {
            kind: _share(
                work.run(f"canaries, {kind}", partial(rolled_back, kind, min_units=MIN_UNITS), size.canaries)
            )
            for kind in CANARIES
        },
        "units_to_stop": _harms(work, size),
        "power": {name: _power(work, name, effect, size) for name, effect in POWER.items()},
        "coverage": {
            world: _share(work.run(f"coverage, {world}", partial(covered, world, units=UNITS), size.other))
            for world in EFFECTS
        },
        "unequal_ratings": {kind: _missing(work, kind, size) for kind in MISSING},
        "mismatch": {f"lost_{lost:g}": _mismatch(work, lost, size) for lost in LOST},
        "assignment": assignment(size.routes),
    }


def _harms(work: Work, size: Size) -> dict[str, dict[str, Any]]:
    """Return by harm in points, then by metric and limit, after how many of its units a candidate stops."""
    found: dict[str, dict[str, Any]] = {}
    for metric, harms in HARMS.items():
        for harm in harms:
            one = partial(units_to_stop, harm, most=_MOST_TO_STOP)
            counts = work.run(f"{harm.points} points worse, {metric}", one, size.harms)
            found.setdefault(str(harm.points), {})[metric] = _spread(counts)
    return found


def _power(work: Work, name: str, effect: Effect, size: Size) -> dict[str, Any]:
    horizon = effect.horizon
    results = work.run(f"power, {name}", partial(found_after, effect, most=_HORIZONS * horizon), size.power)
    units = [found for found, _ in results]
    planned = units_needed(
        effect.size, share=effect.share, alpha=ALPHA, variance=effect.rate * (1 - effect.rate)
    )
    return {
        "fixed_horizon_units": horizon,
        "fixed_horizon": _share(once for _, once in results),
        "sequential_at_these_units": _share(found is not None and found <= horizon for found in units),
        "sequential_units": _spread(units),
        "planned_units": planned,
        "sequential_at_planned_units": _share(
            found is not None and found <= (planned or 0) for found in units
        ),
    }


def _missing(work: Work, kind: str, size: Size) -> dict[str, float]:
    results = work.run(f"ratings, {kind}", partial(missing, kind, units=3000), size.missing)
    names = ("rates_said_to_differ", "ever_a_win", "z_test_among_raters_ever_a_win")
    return {name: _share(result[place] for result in results) for place, name in enumerate(names)}


def _mismatch(work: Work, lost: float, size: Size) -> dict[str, Any]:
    return _spread(
        work.run(f"mismatch, {lost:.0%} lost", partial(suspected_after, lost, units=40_000), size.power)
    )


def _share(found: Iterable[bool]) -> float:
    every = list(found)
    return round(sum(every) / len(every), 5)


def _spread(counts: Sequence[int | None]) -> dict[str, Any]:
    """Return the share that came to an end, and quantiles over all, None where they did not."""
    endless = 1 << 60
    ordered = [endless if count is None else count for count in counts]
    cuts = quantiles(ordered, n=20, method="inclusive")
    named = {"median": cuts[9], "p80": cuts[15], "p90": cuts[17]}
    return {
        "share": _share(count is not None for count in counts),
        **{name: round(value) if value < endless / 100 else None for name, value in named.items()},
    }


def sheet(figures: dict[str, Any]) -> Sheet:
    """Return the table of a run."""
    naive = figures["z_test_false_positive_rate"]
    rows = [
        *(
            (f"false positives, {k}", f"{v:.2%}", f"z-test {naive[k]:.0%}")
            for k, v in _of(figures, "false_positive_rate")
        ),
        *((f"false roll-backs, {k}", f"{v:.2%}", "") for k, v in _of(figures, "false_rollback_rate")),
        *((f"coverage, {k}", f"{v:.2%}", "") for k, v in _of(figures, "coverage")),
        *(
            (f"stopped at {points} points, {k}", number(v["median"]), f"90 % by {number(v['p90'])}")
            for points, metrics in _of(figures, "units_to_stop")
            for k, v in metrics.items()
        ),
        *(
            (f"units for {k}", number(v["sequential_units"]["median"]), _beside(v))
            for k, v in _of(figures, "power")
        ),
        *(
            (
                f"ratings, {k}",
                f"{v['ever_a_win']:.1%} a win",
                f"rates said to differ {v['rates_said_to_differ']:.0%}",
            )
            for k, v in _of(figures, "unequal_ratings")
        ),
        *(
            (f"mismatch, {k}", f"{v['share']:.1%}", f"median after {number(v['median'])}")
            for k, v in _of(figures, "mismatch")
        ),
        *(
            (f"assignment, {k}", f"p = {v['p']:.3f}", f"p < 5 % on {v['below_5_percent']:.1%} of routes")
            for k, v in _of(figures, "assignment")
        ),
    ]
    notes = ["Looked at after every unit; alpha 5 %. Stopped: the candidate's units at a share of 5 %."]
    return Sheet("Statistics of experiments", ["", "figure", "beside it"], rows, notes)


def _of(figures: dict[str, Any], name: str) -> Iterable[tuple[str, Any]]:
    found: dict[str, Any] = figures[name]
    return found.items()


def _beside(found: dict[str, Any]) -> str:
    by = number(found["sequential_units"]["p80"])
    planned, once = number(found["planned_units"]), number(found["fixed_horizon_units"])
    return f"80 % by {by}, planned {planned}, one look {once}"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a fiftieth of the experiments; stays out of RESULTS.md"
    )
    parser.add_argument("--no-history", action="store_true", help="do not append to RESULTS.md")
    options = parser.parse_args()
    console = console_for_people()
    with ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        figures = measure(Work(pool, console), QUICK if options.quick else FULL)
    publish(
        BENCH, figures, sheet(figures), console=console, history=not options.no_history, partial=options.quick
    )
    promised = [*figures["false_positive_rate"].values(), *figures["false_rollback_rate"].values()]
    promised += [1 - held for held in figures["coverage"].values()]
    return int(not options.quick and max(promised) > ALPHA)


if __name__ == "__main__":
    raise SystemExit(main())
