"""`make tune-drift`: what the detector's settings cost and bring, on seeds that `bench-drift` never uses.

Every setting watches the same traffic. The one that is chosen is the most cautious of those that reach the
benchmark's goals with room to spare and keep the stated rate of false alarms; where none does, the one that
finds most.
"""

import argparse
import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from statistics import mean
from typing import Any

from loadtests.common.report import Sheet, console_for_people, keep_piece, markdown, number
from loadtests.drift.run import GOALS, RUN_LENGTH, SHORT_RUN_LENGTH, WORLD
from loadtests.drift.studies import Found, Quiet, found, quiet
from loadtests.drift.texts import pairs
from loadtests.drift.worlds import WORLDS
from monitoring.detector.sample import DetectorOptions

SHIFT_SEEDS, YEAR_SEEDS = 2000, 3000
ROOM = 0.98
"""The share that a setting must find here, so that it finds what the goals say elsewhere."""

SETTINGS = tuple(
    DetectorOptions(run_length=RUN_LENGTH, day_tolerance=days, tolerance=least, risk=risk)
    for days, least, risk in product((2.0, 1.5), (0.005, 0.0025), (0.05, 0.1))
)
"""The most cautious first."""

_SHIFTS = tuple(sorted(shift for _, shift, _, _ in GOALS))
_LONGEST = max(within for _, _, within, _ in GOALS)


@dataclass(frozen=True)
class Row:
    """What a setting found: by shift the share within the goal's requests and the mean until found.

    `alarms` and `requests` are those of the times without drift, by stated run length and world.
    """

    options: DetectorOptions
    share: dict[float, float]
    delay: dict[float, float]
    alarms: dict[tuple[float, str], int]
    requests: dict[str, int]

    @property
    def keeps(self) -> bool:
        """Whether there were no more false alarms than stated, in any world."""
        return all(count <= self.requests[world] / stated for (stated, world), count in self.alarms.items())

    @property
    def reaches(self) -> bool:
        """Whether it reaches the goals with room to spare."""
        return all(share >= ROOM for share in self.share.values())


def choose(rows: Sequence[Row]) -> Row | None:
    """Return the setting to use, of rows with the most cautious first; None if none keeps the stated rate."""
    kept = [row for row in rows if row.keeps]
    reached = [row for row in kept if row.reaches]
    if reached:
        return reached[0]
    return min(kept, key=lambda row: sum(row.delay.values()), default=None)


def measure(pool: ProcessPoolExecutor, *, seeds: int, years: int, days: int = 365) -> list[Row]:
    """Return a row for each setting."""
    hunt = partial(found, "easy", WORLD, shifts=_SHIFTS, options=SETTINGS, longest=_LONGEST)
    hunted = pool.map(hunt, range(SHIFT_SEEDS, SHIFT_SEEDS + seeds))
    lengths = (RUN_LENGTH, SHORT_RUN_LENGTH)
    both = [replace(one, run_length=length) for one in SETTINGS for length in lengths]
    watch = {world: partial(quiet, "easy", world, days=days, options=both) for world in WORLDS}
    watched = {world: pool.map(one, range(YEAR_SEEDS, YEAR_SEEDS + years)) for world, one in watch.items()}
    shifted = list(hunted)
    calm = {world: list(runs) for world, runs in watched.items()}
    return [
        _row(
            one,
            [run[place] for run in shifted],
            {
                (length, world): [run[place * len(lengths) + which] for run in runs]
                for which, length in enumerate(lengths)
                for world, runs in calm.items()
            },
        )
        for place, one in enumerate(SETTINGS)
    ]


def _row(
    options: DetectorOptions,
    shifted: Sequence[dict[float, Found]],
    calm: dict[tuple[float, str], list[Quiet]],
) -> Row:
    within = {shift: most for _, shift, most, _ in GOALS}
    after = {shift: [run[shift].after for run in shifted] for shift in _SHIFTS}
    return Row(
        options,
        {
            shift: mean(one is not None and one <= within[shift] for one in every)
            for shift, every in after.items()
        },
        {shift: mean(min(one or _LONGEST, _LONGEST) for one in every) for shift, every in after.items()},
        {key: sum(len(run.alarms) for run in runs) for key, runs in calm.items()},
        {world: sum(run.rows for run in runs) for (_, world), runs in calm.items()},
    )


def sheet(rows: Sequence[Row], chosen: Row | None, *, seeds: int, years: int, days: int) -> Sheet:
    """Return the table."""
    lines = []
    for row in rows:
        stated = {length: 0 for length, _ in row.alarms}
        for (length, _), count in row.alarms.items():
            stated[length] += count
        one = row.options
        setting = f"{one.day_tolerance:g} deviations, {one.tolerance:.2%}, risk {one.risk:g}"
        lines.append(
            [
                f"{setting}{' (chosen)' if row is chosen else ''}",
                *(f"{row.share[shift]:.1%}, {number(row.delay[shift])}" for shift in _SHIFTS),
                *(f"{count}" for count in stated.values()),
            ]
        )
    requests = sum(rows[0].requests.values())
    goals = [f"{shift:.0%} within {most:,}, mean" for shift, most in sorted((s, m) for _, s, m, _ in GOALS)]
    notes = [
        (
            f"Shifts: {seeds} seeds from {SHIFT_SEEDS}; the mean counts what was not found as {_LONGEST:,}. "
            f"No drift: {years} times {days} days from seed {YEAR_SEEDS} in each of {len(WORLDS)} worlds, "
            f"{requests:,} requests."
        ),
        (
            f"Chosen: the most cautious that finds {ROOM:.0%} of both and has no more alarms than stated in "
            "any world."
        ),
    ]
    columns = ["days, least, risk", *goals, *(f"alarms at {length:,.0f}" for length, _ in _lengths(rows))]
    return Sheet("Settings of the drift detector", columns, lines, notes)


def _lengths(rows: Sequence[Row]) -> list[tuple[float, str]]:
    first = next(iter(rows[0].requests))
    return [key for key in rows[0].alarms if key[1] == first]


def document(rows: Sequence[Row], chosen: Row | None) -> dict[str, Any]:
    """Return the table as JSON."""
    return {
        "shift_seeds": SHIFT_SEEDS,
        "year_seeds": YEAR_SEEDS,
        "settings": [
            {
                "day_tolerance": row.options.day_tolerance,
                "tolerance": row.options.tolerance,
                "risk": row.options.risk,
                "found": {f"{shift:g}": share for shift, share in row.share.items()},
                "mean_requests": {f"{shift:g}": delay for shift, delay in row.delay.items()},
                "alarms": [
                    {"stated": stated, "world": world, "alarms": count, "requests": row.requests[world]}
                    for (stated, world), count in row.alarms.items()
                ],
                "chosen": row is chosen,
            }
            for row in rows
        ],
    }


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=120, help="of shifts (default: 120)")
    parser.add_argument("--years", type=int, default=1, help="without drift, in each world (default: 1)")
    parser.add_argument("--days", type=int, default=365, help="of a year (default: 365)")
    options = parser.parse_args()
    console = console_for_people()
    pairs(console)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"  # the processes share the cores; set before they import numpy
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(max_workers=cores, mp_context=get_context("spawn")) as pool:
        rows = measure(pool, seeds=options.seeds, years=options.years, days=options.days)
    chosen = choose(rows)
    found = document(rows, chosen)
    keep_piece("tune-drift", "settings", found)
    table = sheet(rows, chosen, seeds=options.seeds, years=options.years, days=options.days)
    console.print(markdown(table), highlight=False)
    print(json.dumps(found), flush=True)
    return int(chosen is None)


if __name__ == "__main__":
    raise SystemExit(main())
