"""The simulations of `make bench-drift`: one run each, by seed, in a process of a pool."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console

from loadtests.drift.texts import Pair, pairs
from loadtests.drift.worlds import WORLDS, Traffic
from monitoring.detector.calibration import Calibration, calibrate
from monitoring.detector.detector import Detector
from monitoring.detector.sample import DetectorOptions, Sample, TooLittle, take

LONGEST = 10_000
_LOOK_ROWS = 40  # a look's rows: alarms are dated to so many rows
_QUIET_DAYS = (7, 40)


@dataclass(frozen=True)
class Quiet:
    """A time without drift: its rows, and after how many of them each alarm came (since the one before)."""

    rows: int
    alarms: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """A shift: after how many rows it was found (None within `LONGEST`), and alarms before it began."""

    after: int | None
    early: int
    quiet_rows: int
    effect: float
    effect_low: float
    effect_high: float
    dated_late_rows: int | None


def quiet(pair: str, world: str, seed: int, *, days: int, options: Sequence[DetectorOptions]) -> list[Quiet]:
    """Watch the same traffic without drift by each of the options; a detector is restarted at its alarm."""
    traffic = Traffic(pair_of(pair), WORLDS[world], seed)
    reference = traffic.reference()
    watches = [_Watch(Detector(calibrated(reference, one, seed))) for one in options]
    for day in islice(traffic.days(), days):
        for part in _parts(day, 200):
            for watch in watches:
                watch.take(part)
    return [Quiet(watch.rows, tuple(watch.alarms)) for watch in watches]


def found(
    pair: str,
    world: str,
    seed: int,
    *,
    shifts: tuple[float, ...],
    options: Sequence[DetectorOptions],
    longest: int = LONGEST,
) -> list[dict[float, Found]]:
    """Watch a long quiet time, then each shift in turn from where the quiet time left off, by each option."""
    traffic = Traffic(pair_of(pair), WORLDS[world], seed)
    reference = traffic.reference()
    calibrations = [calibrated(reference, one, seed) for one in options]
    watches = [_Watch(Detector(calibration)) for calibration in calibrations]
    draw = np.random.default_rng(seed + 10_000)
    for day in islice(traffic.days(), int(draw.integers(*_QUIET_DAYS))):
        for watch in watches:
            watch.take(day)
    states = [watch.detector.state() for watch in watches]
    results: list[dict[float, Found]] = [{} for _ in options]
    for shift in shifts:
        hunted = found_in(calibrations, states, traffic, shift, longest=longest)
        for result, watch, one in zip(results, watches, hunted, strict=True):
            result[shift] = replace(one, early=len(watch.alarms), quiet_rows=watch.rows)
    return results


def found_in(
    calibrations: Sequence[Calibration],
    states: Sequence[dict[str, Any] | None],
    traffic: Traffic,
    shift: float,
    *,
    longest: int = LONGEST,
) -> list[Found]:
    """Watch a shift that begins now, from each state of a detector on."""
    hunts = [_Hunt(Detector(one, state)) for one, state in zip(calibrations, states, strict=True)]
    rows = 0
    times: list[float] = []
    for part in (part for day in traffic.days(shift=shift) for part in _parts(day, _LOOK_ROWS)):
        rows += len(part)
        times += part.at.tolist()
        for hunt in hunts:
            hunt.take(part, rows)
        if rows >= longest or all(hunt.after is not None for hunt in hunts):
            break
    return [hunt.found(times) for hunt in hunts]


@dataclass
class _Watch:
    """A detector in quiet times: its rows, and after how many each alarm came (since the one before)."""

    detector: Detector
    rows: int = 0
    since: int = 0
    alarms: list[int] = field(default_factory=list)

    def take(self, part: Sample) -> None:
        self.rows, self.since = self.rows + len(part), self.since + len(part)
        if self.detector.update(part).alarmed:
            self.alarms.append(self.since)
            self.since = 0
            self.detector.restart()


@dataclass
class _Hunt:
    """A detector from where a shift began until it has found it."""

    detector: Detector
    after: int | None = None

    def take(self, part: Sample, rows: int) -> None:
        """Take the next rows, `rows` with all before; none any more once the shift was found."""
        if self.after is None and self.detector.update(part).alarmed:
            self.after = rows

    def found(self, times: Sequence[float]) -> Found:
        evidence = self.detector.evidence()
        effect, dated = evidence.effect, None
        if self.after is not None and evidence.change_at is not None:
            dated = int(np.searchsorted(times, evidence.change_at))
        return Found(self.after, 0, 0, effect.value, effect.low, effect.high, dated)


def _parts(day: Sample, rows: int) -> list[Sample]:
    return [take(day, np.arange(start, min(start + rows, len(day)))) for start in range(0, len(day), rows)]


def calibrated(reference: Sample, options: DetectorOptions, seed: int) -> Calibration:
    found = calibrate(reference, replace(options, seed=seed))
    if isinstance(found, TooLittle):
        raise ValueError(found.reason)  # noqa: TRY004 - it is the rows that are too few
    return found


@lru_cache(maxsize=1)
def _all() -> dict[str, Pair]:
    return pairs(Console(quiet=True))


def pair_of(name: str) -> Pair:
    """Return a pair by name; its vectors are read once a process."""
    return _all()[name]
