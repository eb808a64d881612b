"""The simulations of `make bench-drift`: one run each, by seed, in a process of a pool."""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Console

from loadtests.drift_texts import Pair, pairs
from loadtests.drift_worlds import WORLDS, Traffic
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


def quiet(pair: str, world: str, seed: int, *, days: int, run_length: float) -> Quiet:
    """Watch traffic without drift; the detector is restarted after each alarm."""
    traffic = Traffic(pair_of(pair), WORLDS[world], seed)
    detector = Detector(calibrated(traffic.reference(), run_length, seed))
    alarms: list[int] = []
    rows = since = 0
    for day in islice(traffic.days(), days):
        for part in _parts(day, 200):
            rows, since = rows + len(part), since + len(part)
            if detector.update(part).alarmed:
                alarms.append(since)
                since = 0
                detector.restart()
    return Quiet(rows, tuple(alarms))


def found(
    pair: str, world: str, seed: int, *, shifts: tuple[float, ...], run_length: float
) -> dict[float, Found]:
    """Watch a long quiet time, then each shift in turn from where the quiet time left off."""
    texts = pair_of(pair)
    traffic = Traffic(texts, WORLDS[world], seed)
    calibration = calibrated(traffic.reference(), run_length, seed)
    detector = Detector(calibration)
    early = rows = 0
    draw = np.random.default_rng(seed + 10_000)
    for day in islice(traffic.days(), int(draw.integers(*_QUIET_DAYS))):
        rows += len(day)
        if detector.update(day).alarmed:
            early += 1
            detector.restart()
    state = detector.state()
    return {
        shift: replace(found_in(calibration, state, traffic, shift), early=early, quiet_rows=rows)
        for shift in shifts
    }


def found_in(calibration: Calibration, state: dict[str, Any] | None, traffic: Traffic, shift: float) -> Found:
    """Watch a shift that begins now, from a state of the detector on."""
    detector = Detector(calibration, state)
    rows = 0
    times: list[float] = []
    for part in (part for day in traffic.days(shift=shift) for part in _parts(day, _LOOK_ROWS)):
        rows += len(part)
        times += part.at.tolist()
        evidence = detector.update(part)
        if evidence.alarmed or rows >= LONGEST:
            break
    effect, dated = evidence.effect, None
    if evidence.alarmed and evidence.change_at is not None:
        dated = int(np.searchsorted(times, evidence.change_at))
    return Found(rows if evidence.alarmed else None, 0, 0, effect.value, effect.low, effect.high, dated)


def _parts(day: Sample, rows: int) -> list[Sample]:
    return [take(day, np.arange(start, min(start + rows, len(day)))) for start in range(0, len(day), rows)]


def calibrated(reference: Sample, run_length: float, seed: int) -> Calibration:
    found = calibrate(reference, DetectorOptions(run_length=run_length, seed=seed))
    if isinstance(found, TooLittle):
        raise ValueError(found.reason)  # noqa: TRY004 - it is the rows that are too few
    return found


@lru_cache(maxsize=1)
def _all() -> dict[str, Pair]:
    return pairs(Console(quiet=True))


def pair_of(name: str) -> Pair:
    """Return a pair by name; its vectors are read once a process."""
    return _all()[name]
