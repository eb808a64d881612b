"""Simulated traffic of `make bench-drift`: weeks, sessions, repeats, and a shift that begins at some request.

The usual texts of a pair are parted at random into those of the reference and those of all later traffic, so
that nothing the detector was calibrated on comes back. No text is said on two days of the reference; later
ones are drawn with replacement.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loadtests.drift.texts import Pair, Rows
from monitoring.detector.sample import DAY_S, Sample, one_a_day

IntArray = NDArray[np.int64]

WEEKDAY_SESSIONS, WEEKEND_SESSIONS = 300, 200
_MONDAY = 1_700_438_400.0
_WEEKEND_MORE = 0.15  # of the first of two topics, in share of the traffic
_NEIGHBOURS = 24
_REFERENCE_SHARE = 0.5
_TEMPLATES = 20


@dataclass(frozen=True)
class World:
    """What traffic without drift is like.

    `weekly`: fewer requests and other topics at weekends, and days that differ by `day_effect`, a standard
    deviation of the first topic's share. `longest`: requests of a
    session, which are neighbours of each other in meaning, each repeated word for word with chance `repeats`;
    `templates` is the share of requests that are one of twenty texts. `subjects`: whether the gateway knows
    whose session it is.
    """

    weekly: bool = True
    day_effect: float = 0.02
    longest: int = 1
    repeats: float = 0.0
    templates: float = 0.0
    subjects: bool = True


WORLDS = {
    "independent": World(weekly=False),
    "weekly": World(),
    "restless": World(day_effect=0.06),
    "sessions": World(longest=10, repeats=0.1, templates=0.03),
    "no_subjects": World(longest=10, repeats=0.1, templates=0.03, subjects=False),
}


class Traffic:
    """One seed's traffic of a pair in a world. Days are drawn one after another."""

    def __init__(self, pair: Pair, world: World, seed: int) -> None:
        self._pair, self._world = pair, world
        self._random = np.random.default_rng(seed)
        order = self._random.permutation(len(pair.usual))
        cut = int(_REFERENCE_SHARE * len(order))
        self._reference, self._later = np.sort(order[:cut]), np.sort(order[cut:])
        self._topics = topics(pair.usual)
        self._day = int(self._random.integers(7))
        self._subject = 0

    def reference(self, days: int = 8) -> Sample:
        """Return the burn-in."""
        parts, unused = [], self._reference
        for _ in range(days):
            day, said = self._one_day(unused, shift=0.0)
            parts.append(one_a_day(day))
            unused = np.setdiff1d(unused, said)
        return _joined(parts)

    def days(self, *, shift: float = 0.0) -> Iterator[Sample]:
        """Yield later days without an end, with a share of the requests drawn from the shifted texts."""
        while True:
            yield one_a_day(self._one_day(self._later, shift=shift)[0])

    def _one_day(self, pool: IntArray, *, shift: float) -> tuple[Sample, IntArray]:
        """Return all requests of a day, and which texts of the pool the detector may get."""
        random, world = self._random, self._world
        weekend = world.weekly and self._day % 7 >= 5
        sessions = WEEKEND_SESSIONS if weekend else WEEKDAY_SESSIONS
        more = (_WEEKEND_MORE * weekend + random.normal(0, world.day_effect)) if world.weekly else 0.0
        lengths = np.minimum(random.geometric(0.3, sessions), world.longest)
        if not world.subjects and world.longest > 1:
            lengths = lengths[: max(1, int(sessions / lengths.mean()))]  # as many rows as with subjects
        firsts = self._firsts(pool, len(lengths), more)
        places = np.concatenate(
            [self._session(pool, first, length) for first, length in zip(firsts, lengths, strict=True)]
        )
        subjects = np.repeat(np.arange(len(lengths)) + self._subject, lengths)
        self._subject += len(lengths)
        sample = self._sample(places, subjects, shift=shift)
        self._day += 1
        return sample, firsts if world.subjects else places

    def _firsts(self, pool: IntArray, count: int, more: float) -> IntArray:
        """Return first texts of sessions, with so much more of the first topic than usual."""
        topic = self._topics[pool]
        usual = topic.mean()
        wanted = float(np.clip(usual + more, 0.02, 0.98))
        weights = np.where(topic, wanted / usual, (1 - wanted) / (1 - usual))
        return self._random.choice(pool, count, p=weights / weights.sum(), replace=count > len(pool))

    def _session(self, pool: IntArray, first: int, length: int) -> IntArray:
        """Return a session's texts: neighbours of its first, some repeated."""
        if length == 1:
            return np.array([first])
        near = neighbours(self._pair.usual)[first]
        near = near[np.isin(near, pool, assume_unique=True)]
        drawn = self._random.choice(np.append(near, first), length)
        drawn[0] = first
        again = self._random.random(length) < self._world.repeats
        again[0] = False
        drawn[again] = drawn[np.flatnonzero(again) - 1]
        return drawn

    def _sample(self, places: IntArray, subjects: IntArray, *, shift: float) -> Sample:
        random, count = self._random, len(places)
        templated = random.random(count) < self._world.templates
        places = np.where(templated, random.integers(0, _TEMPLATES, count), places)
        vectors, chars = self._pair.usual.vectors[places], self._pair.usual.chars[places]
        moved = np.flatnonzero(random.random(count) < shift)
        other = random.integers(0, len(self._pair.shifted), len(moved))
        vectors[moved], chars[moved] = self._pair.shifted.vectors[other], self._pair.shifted.chars[other]
        return Sample(
            vectors=vectors,
            numbers={"prompt_chars": chars},
            at=_MONDAY + DAY_S * (self._day + np.arange(count) / count),
            units=[str(subject) if self._world.subjects else None for subject in subjects.tolist()],
        )


@lru_cache(maxsize=4)
def topics(rows: Rows) -> NDArray[np.bool_]:
    """Return which rows are of the first of two topics: the sides of the main axis."""
    centred = rows.vectors - rows.vectors.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    topic: NDArray[np.bool_] = centred @ axes[:, -1] > 0
    return topic


@lru_cache(maxsize=4)
def neighbours(rows: Rows) -> IntArray:
    """Return for each row those most alike."""
    found = []
    for start in range(0, len(rows), 1000):
        alike = rows.vectors[start : start + 1000] @ rows.vectors.T
        alike[np.arange(len(alike)), start + np.arange(len(alike))] = -1
        found.append(np.argpartition(alike, -_NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:])
    return np.concatenate(found)


def _joined(samples: list[Sample]) -> Sample:
    return Sample(
        vectors=np.concatenate([sample.vectors for sample in samples]),
        numbers={
            name: np.concatenate([sample.numbers[name] for sample in samples]) for name in samples[0].numbers
        },
        at=np.concatenate([sample.at for sample in samples]),
        units=[unit for sample in samples for unit in sample.units],
    )
