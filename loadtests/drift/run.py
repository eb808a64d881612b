"""`make bench-drift`: does the drift detector keep its error rate, and what does it find?

Real texts, embedded once. For pairs of graded difficulty: shifts of 5 to 50 % that begin at a random time
after long quiet, and after how many requests they are found; years without drift, with weeks, sessions and
repeats, against the stated run length; Evidently's methods on single windows; time and memory of a check.
"""

import argparse
import json
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import Any

from rich.console import Console

from loadtests.common.report import RESULTS, Sheet, console_for_people, number, publish
from loadtests.drift.checks import check
from loadtests.drift.draws import draw
from loadtests.drift.studies import LONGEST, Found, Quiet, found, quiet
from loadtests.drift.texts import PAIRS, pairs
from loadtests.drift.worlds import WORLDS
from monitoring.detector.sample import DetectorOptions

BENCH = "bench-drift"
SHIFTS = (0.05, 0.1, 0.2, 0.5)
WINDOW_SHIFTS = {"easy": (0.0, 0.1, 0.2), "matched": (0.0, 0.2), "subtle": (0.0, 0.2)}
WITHIN = (500, 2000, LONGEST)
RUN_LENGTH = 100_000.0
SHORT_RUN_LENGTH = 5_000.0
WORLD = "weekly"
SEEDS = 5000  # from here on; nothing was chosen on them (loadtests.drift.tuning has those that were used)
GOALS = (("easy", 0.2, 500, 0.95), ("easy", 0.1, 2000, 0.95))


@dataclass(frozen=True)
class Size:
    """How many seeds of each study; `harder` is for the shifts of all pairs but the easy one."""

    years: int
    shifts: int
    harder: int
    windows: int
    rows: tuple[int, ...]
    days: int = 365


FULL = Size(years=2, shifts=100, harder=20, windows=50, rows=(10_000, 1_000_000))
QUICK = Size(years=2, shifts=6, harder=2, windows=4, rows=(10_000, 100_000), days=60)


class Work:
    """Runs simulations on every core, and says what it does."""

    def __init__(self, pool: ProcessPoolExecutor, console: Console) -> None:
        self._pool = pool
        self._console = console

    def run(self, what: str, one: Callable[[int], Any], count: int) -> list[Any]:
        """Return the results of so many seeds."""
        self._console.print(f"[dim]{what}: {count:,} runs[/dim]")
        return list(self._pool.map(one, range(SEEDS, SEEDS + count)))


def measure(work: Work, size: Size, *, beside: bool = True) -> dict[str, Any]:
    """Return every figure; those of single windows only if `beside`."""
    both = _both()
    stated = run_lengths(work, both, years=size.years, days=size.days)
    shifts: dict[str, list[dict[float, Found]]] = {}
    for pair in PAIRS:
        one = partial(found, pair, WORLD, shifts=SHIFTS, options=both[:1])
        runs = work.run(f"shifts, {pair}", one, size.shifts if pair == "easy" else size.harder)
        shifts[pair] = [run[0] for run in runs]
    windows: dict[str, list[dict[float, dict[str, bool]]]] = {}
    if beside:
        from loadtests.drift.windows import alarms  # noqa: PLC0415 - needs Evidently

        for pair in PAIRS:
            look = partial(alarms, pair, shifts=WINDOW_SHIFTS[pair])
            windows[pair] = work.run(f"single windows, {pair}", look, size.windows)
    return {
        "run_length": stated,
        "found_share": {pair: shares(shifts[pair], windows.get(pair, ())) for pair in PAIRS},
        "median_requests_to_find": {
            pair: {_name(shift): {"turnout": _median([run[shift].after for run in runs])} for shift in SHIFTS}
            for pair, runs in shifts.items()
        },
        "false_alarm_rate": _false_alarms(shifts, windows),
        "effect": {
            pair: {_name(shift): _effects(runs, shift) for shift in SHIFTS} for pair, runs in shifts.items()
        },
        "first_seed": SEEDS,
        "seeds": vars(size),
    }


def _both() -> list[DetectorOptions]:
    return [DetectorOptions(run_length=length) for length in (RUN_LENGTH, SHORT_RUN_LENGTH)]


def run_lengths(
    work: Work, both: Sequence[DetectorOptions], *, years: int, days: int = 365
) -> dict[str, Any]:
    """Return how often there was a false alarm, by the stated run length and the world."""
    runs = {
        world: work.run(f"no drift, {world}", partial(quiet, "easy", world, days=days, options=both), years)
        for world in WORLDS
    }
    stated = {
        f"{one.run_length:.0f}": {
            world: _run_length(one.run_length, [run[place] for run in every]) for world, every in runs.items()
        }
        for place, one in enumerate(both)
    }
    return {
        "stated": RUN_LENGTH,
        **_together(stated[f"{RUN_LENGTH:.0f}"].values()),
        "by_stated_and_world": stated,
    }


def _run_length(stated: float, runs: Sequence[Quiet]) -> dict[str, Any]:
    """Return the observed run length of a world, with a lower bound of 95 % confidence."""
    rows, alarmed = sum(run.rows for run in runs), sum(len(run.alarms) for run in runs)
    return {
        "stated": stated,
        "requests": rows,
        "alarms": alarmed,
        "observed": round(rows / alarmed) if alarmed else None,
        "at_least": round(rows / _poisson_upper(alarmed)),
    }


def _together(worlds: Iterable[dict[str, Any]]) -> dict[str, int | None]:
    every = list(worlds)
    rows, alarmed = sum(one["requests"] for one in every), sum(one["alarms"] for one in every)
    observed = round(rows / alarmed) if alarmed else None
    return {"observed": observed, "at_least": round(rows / _poisson_upper(alarmed))}


def _poisson_upper(count: int) -> float:
    """Return the upper bound of 95 % confidence of a Poisson mean that gave `count` (Garwood 1936)."""
    from scipy.stats import chi2  # noqa: PLC0415 - comes with Evidently, which is needed anyway

    return float(chi2.ppf(0.95, 2 * count + 2) / 2)


def shares(
    runs: Sequence[dict[float, Found]], windows: Sequence[dict[float, dict[str, bool]]]
) -> dict[str, Any]:
    """Return by shift and method: the share found within so many requests, or by one look at 500."""
    shares: dict[str, Any] = {}
    for shift in SHIFTS:
        after = [run[shift].after for run in runs]
        shares[_name(shift)] = {
            "turnout": {
                str(within): _share(one is not None and one <= within for one in after) for within in WITHIN
            },
            **{name: _share(window[shift][name] for window in windows) for name in _methods(windows, shift)},
        }
    return shares


def _methods(windows: Sequence[dict[float, dict[str, bool]]], shift: float) -> Iterable[str]:
    return windows[0].get(shift, {}) if windows else ()


def _false_alarms(
    shifts: dict[str, list[dict[float, Found]]], windows: dict[str, list[dict[float, dict[str, bool]]]]
) -> dict[str, Any]:
    """Return by method the share of single windows without a shift that alarm, over all pairs.

    For the detector: alarms for 500 requests of the quiet times before the shifts.
    """
    every = [window[0.0] for looked in windows.values() for window in looked]
    first = [run[SHIFTS[0]] for runs in shifts.values() for run in runs]
    rate = sum(run.early for run in first) / sum(run.quiet_rows for run in first) * 500
    return {
        "turnout": round(rate, 5),
        **{name: _share(one[name] for one in every) for name in (every[0] if every else ())},
    }


def _effects(runs: Sequence[dict[float, Found]], shift: float) -> dict[str, Any]:
    """Return what the detector said of the size of a shift when it found it, and of when it began."""
    hit = [run[shift] for run in runs if run[shift].after is not None]
    dated = [one.dated_late_rows for one in hit if one.dated_late_rows is not None]
    return {
        "median_effect": round(median(one.effect for one in hit), 3) if hit else None,
        "above_the_shift": _share(one.effect_low > shift for one in hit) if hit else None,
        "median_dated_late_requests": round(median(dated)) if dated else None,
    }


def _share(every: Iterable[bool]) -> float:
    values = list(every)
    return round(sum(values) / len(values), 3)


def _median(after: Sequence[int | None]) -> int | None:
    """Return the median, None where more than half were not found."""
    middle = median([LONGEST * 10 if one is None else one for one in after])
    return round(middle) if middle <= LONGEST else None


def _name(shift: float) -> str:
    return f"{shift:g}"


def beside_of(figures: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
    """Return figures with the single windows of an earlier result: they do not depend on the detector."""
    earlier = kept["figures"]
    share = {
        pair: {
            shift: {**earlier["found_share"].get(pair, {}).get(shift, {}), **methods}
            for shift, methods in by_shift.items()
        }
        for pair, by_shift in figures["found_share"].items()
    }
    rate = {**earlier["false_alarm_rate"], **figures["false_alarm_rate"]}
    commit = earlier.get("windows_commit", kept["commit"])
    return {**figures, "found_share": share, "false_alarm_rate": rate, "windows_commit": commit}


def costs(console: Console, size: Size) -> dict[str, Any]:
    """Return what checks and draws cost, by the number of rows."""
    checks, draws = {}, {}
    for rows in size.rows:
        console.print(f"[dim]a check of {rows:,} rows, and drawing from as many[/dim]")
        checks[str(rows)], draws[str(rows)] = check(rows), draw(rows)
    return {
        "draws": draws,
        "check_s": {rows: one["s"] for rows, one in checks.items()},
        "check_peak_mb": {rows: one["peak_mb"] for rows, one in checks.items()},
        "checks": checks,
    }


def sheet(figures: dict[str, Any]) -> Sheet:
    """Return the table of a run."""
    rows = []
    for pair, by_shift in figures["found_share"].items():
        for shift, methods in by_shift.items():
            turnout = methods["turnout"]
            beside = ", ".join(
                f"{name.removeprefix('evidently_')} {share:.0%}"
                for name, share in methods.items()
                if name != "turnout"
            )
            rows.append(
                (
                    f"{pair}, {float(shift):.0%} shift",
                    " / ".join(f"{turnout[str(one)]:.0%}" for one in WITHIN),
                    number(figures["median_requests_to_find"][pair][shift]["turnout"]),
                    beside,
                )
            )
    for length, worlds in figures["run_length"]["by_stated_and_world"].items():
        for world, run in worlds.items():
            text = f"{run['alarms']} alarms in {run['requests']:,}"
            rows.append((f"no drift, {world}", f"stated {float(length):,.0f}", number(run["observed"]), text))
    for name, rate in figures["false_alarm_rate"].items():
        rows.append(
            (
                f"false alarms, {name}",
                f"{rate:.1%}",
                "",
                "of 500 requests" if name == "turnout" else "of windows",
            )
        )
    for count, seconds in figures.get("check_s", {}).items():
        rows.append(
            (
                f"a check of {int(count):,} rows",
                f"{seconds:.1f} s",
                f"{figures['check_peak_mb'][count]:.0f} MB",
                "",
            )
        )
    for count, one in figures.get("draws", {}).items():
        rows.append(
            (
                f"drawing {one['drawn']:,.0f} of {int(count):,} requests",
                f"{one['s']:.1f} s",
                f"{one['peak_mb']:.0f} MB",
                "",
            )
        )
    within = ", ".join(f"{one:,}" for one in WITHIN)
    notes = [
        (
            f"Shifts: share found within {within} requests, median; beside it single windows of 500 against "
            "500, to be read with the false alarms of each method. All but permutation_mmd are Evidently's."
        ),
        (
            "No drift: the observed run length, - where no alarm came. Requests are those the detector is "
            "given: at most one a subject and day where subjects are known."
        ),
    ]
    if commit := figures.get("windows_commit"):
        notes.append(f"Single windows as of commit {commit}: they do not depend on the detector.")
    return Sheet("Drift", ["", "found or stated", "requests", "beside it"], rows, notes)


def missed(figures: dict[str, Any]) -> list[str]:
    """Return the goals that a run missed, in words."""
    said = []
    for pair, shift, within, goal in GOALS:
        share = figures["found_share"][pair][_name(shift)]["turnout"][str(within)]
        if share < goal:
            what = f"{share:.0%} of {shift:.0%} shifts found within {within} requests on {pair}"
            said.append(f"{what}: the goal is {goal:.0%}")
    for worlds in figures["run_length"]["by_stated_and_world"].values():
        for world, run in worlds.items():
            if run["observed"] is not None and run["observed"] < run["stated"]:
                said.append(f"run length {run['observed']:,} in {world}: stated is {run['stated']:,.0f}")
    return said


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the seeds; stays out of RESULTS.md")
    parser.add_argument("--no-history", action="store_true", help="do not append to RESULTS.md")
    parser.add_argument(
        "--keep-windows", action="store_true", help="take the single windows from the last full result"
    )
    parser.add_argument(
        "--only-years", type=int, metavar="N", help="only N years without drift in each world, as JSON"
    )
    parser.add_argument("--only-checks", action="store_true", help="only what checks and draws cost, as JSON")
    options = parser.parse_args()
    size = QUICK if options.quick else FULL
    console = console_for_people()
    pairs(console)
    # One thread a process: the processes share the cores. Set before they import numpy.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    if options.only_checks:
        print(json.dumps(costs(console, size)), flush=True)
        return 0
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(max_workers=cores, mp_context=get_context("spawn")) as pool:
        work = Work(pool, console)
        if options.only_years:
            print(json.dumps(run_lengths(work, _both(), years=options.only_years)), flush=True)
            return 0
        figures = measure(work, size, beside=not options.keep_windows)
    if options.keep_windows:
        figures = beside_of(figures, json.loads((RESULTS / f"{BENCH}.json").read_text(encoding="utf-8")))
    figures |= costs(console, size)
    figures["missed"] = missed(figures)
    for line in figures["missed"]:
        console.print(f"missed: {line}")
    publish(
        BENCH, figures, sheet(figures), console=console, history=not options.no_history, partial=options.quick
    )
    return int(bool(figures["missed"]) and not options.quick)


if __name__ == "__main__":
    raise SystemExit(main())
