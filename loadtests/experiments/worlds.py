"""Simulated traffic for `make bench-experiments`: units that close, with what their arms truly differ by.

Everything random comes from the generator that a world is given, assignment included: subjects that come
back are assigned by the product's own hash on a route whose name is drawn.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from gateway.core.documents import Arm
from gateway.experiments.outcomes import Outcome, Shares
from gateway.experiments.returning import chances
from gateway.routing.experiments import Lottery

STABLE = "support@1"
CANDIDATE = "support@2"
RAMP = (0.05, 0.25, 0.5)


class Unit(NamedTuple):
    """A closed unit, its epoch's shares, and how much the candidate truly raises the mean of such a unit."""

    outcome: Outcome
    shares: Shares
    effect: float


World = Callable[[random.Random, int], Iterator[Unit]]


def shares_of(share: float) -> dict[str, float]:
    """Return the shares of a route that gives the candidate this one."""
    return {STABLE: 1 - share, CANDIDATE: share}


def drawn(rng: random.Random, epoch: int, shares: Shares, stable: float, effect: float = 0.0) -> Unit:
    """Return a unit that succeeds with probability `stable`, or with the effect on top as a candidate's."""
    arm = CANDIDATE if rng.random() < shares[CANDIDATE] else STABLE
    success = rng.random() < stable + (effect if arm == CANDIDATE else 0.0)
    return Unit(Outcome(epoch, arm, float(success)), shares, effect)


def fixed(share: float, rate: float, effect: float = 0.0) -> World:
    """One epoch, one success rate, one effect."""

    def world(rng: random.Random, count: int) -> Iterator[Unit]:
        shares = shares_of(share)
        for _ in range(count):
            yield drawn(rng, 1, shares, rate, effect)

    return world


def numbers(rng: random.Random, count: int) -> Iterator[Unit]:
    """Values over the whole range, mostly near its ends."""
    shares = shares_of(0.25)
    for _ in range(count):
        arm = CANDIDATE if rng.random() < 0.25 else STABLE
        yield Unit(Outcome(1, arm, rng.betavariate(0.3, 0.6)), shares, 0.0)


def ramps(rng: random.Random, count: int) -> Iterator[Unit]:
    """Shares rise while the success rate of both arms falls: pooled over epochs, the candidate looks bad."""
    for epoch, (share, rate) in enumerate(zip(RAMP, (0.9, 0.6, 0.2), strict=True), start=1):
        shares = shares_of(share)
        for _ in range(count // 3):
            yield drawn(rng, epoch, shares, rate)


def chasing(rng: random.Random, count: int) -> Iterator[Unit]:
    """Shares follow, epoch by epoch, whichever arm looks better so far, and the success rate wanders."""
    sums, counts = {STABLE: 0.5, CANDIDATE: 0.5}, {STABLE: 1, CANDIDATE: 1}
    share = 0.2
    for place in range(count):
        if place and place % (count // 10) == 0:
            ahead = sums[CANDIDATE] / counts[CANDIDATE] > sums[STABLE] / counts[STABLE]
            share = min(0.8, share * 1.6) if ahead else max(0.05, share / 1.6)
        rate = 0.5 + 0.4 * math.sin(place / count * 9)
        unit = drawn(rng, place // (count // 10), shares_of(share), rate)
        sums[unit.outcome.arm] += unit.outcome.value
        counts[unit.outcome.arm] += 1
        yield unit


def delayed(rng: random.Random, count: int) -> Iterator[Unit]:
    """Ratings come late, the candidate's later; units close a window after exposure, while shares change.

    Half of the units are never rated and count half. The success rate has a daily cycle.
    """
    window = 200.0
    coming: list[tuple[float, int, str, float]] = []
    ratings: dict[int, float] = {}
    opened: dict[int, tuple[int, str, Shares]] = {}
    for number in range(count):
        heapq.heappush(coming, (float(number), number, "exposed", 0.0))
    while coming:
        now, number, kind, value = heapq.heappop(coming)
        if kind == "exposed":
            epoch = 1 + 3 * number // count
            shares: Shares = shares_of(RAMP[epoch - 1])
            arm = CANDIDATE if rng.random() < shares[CANDIDATE] else STABLE
            opened[number] = (epoch, arm, shares)
            heapq.heappush(coming, (now + window, number, "closed", 0.0))
            if rng.random() < 0.5:
                liked = float(rng.random() < 0.5 + 0.4 * math.sin(now / 80))
                delay = rng.uniform(0, window if arm == CANDIDATE else window / 10)
                heapq.heappush(coming, (now + delay, number, "rated", liked))
        elif kind == "rated":
            ratings[number] = value
        else:
            epoch, arm, shares = opened.pop(number)
            yield Unit(Outcome(epoch, arm, ratings.pop(number, 0.5)), shares, 0.0)


def recurring(rng: random.Random, count: int, *, again: bool = True) -> Iterator[Unit]:
    """A few subjects that come back in every epoch, each nearly always content or nearly never.

    With `again` they count in each epoch with the chances that their history leaves; without, once.
    """
    route = f"route-{rng.getrandbits(64)}"
    subjects = {f"user{n}@example.com": rng.choice((0.03, 0.97)) for n in range(count // 3)}
    history: dict[str, list[tuple[Shares, str]]] = {subject: [] for subject in subjects}
    for epoch, share in enumerate(RAMP, start=1):
        shares = shares_of(share)
        lottery = Lottery(route, "", [Arm(adapter=arm, share=part) for arm, part in shares.items()])
        coming = list(subjects)
        rng.shuffle(coming)
        for subject in coming:
            past = history[subject]
            if (past and not again) or rng.random() < 0.3:
                continue
            arm = (STABLE, CANDIDATE)[lottery.arm(subject)]
            left = chances(past, shares, stable=STABLE, candidate=CANDIDATE) if past else None
            past.append((shares, arm))
            value = float(rng.random() < subjects[subject])
            yield Unit(Outcome(epoch, arm, value, left), shares, 0.0)


def recurring_once(rng: random.Random, count: int) -> Iterator[Unit]:
    """The same subjects, each counted in its first arm only."""
    return recurring(rng, count, again=False)


def cold_left_out(rng: random.Random, count: int) -> Iterator[Unit]:
    """A fifth of the candidate's units does not count, as cold ones do not, while the success rate rises.

    This is beyond what the randomisation promises: the chance among counted units is not the epoch's.
    """
    shares = shares_of(0.05)
    for place in range(count):
        unit = drawn(rng, 1, shares, 0.1 + 0.8 * place / count)
        if unit.outcome.arm == STABLE or rng.random() < 0.8:
            yield unit


def turning(rng: random.Random, count: int) -> Iterator[Unit]:
    """Success rate, shares and the effect itself change: the candidate helps, harms, and helps again."""
    for place in range(count):
        epoch = 1 + 3 * place // count
        rate = 0.5 + 0.25 * math.sin(place / count * 7)
        effect = 0.2 * math.cos(place / count * 11)
        yield drawn(rng, epoch, shares_of(RAMP[epoch - 1]), rate, effect)


EQUAL: dict[str, World] = {
    "halves": fixed(0.5, 0.3),
    "share_5": fixed(0.05, 0.7),
    "rare_errors": fixed(0.05, 0.01),
    "numbers": numbers,
    "ramps": ramps,
    "recurring_again": recurring,
    "recurring_once": recurring_once,
    "delayed": delayed,
    "shares_chase": chasing,
    "cold_left_out": cold_left_out,
}
"""Worlds whose arms are equal."""

EFFECTS: dict[str, World] = {
    "constant_5_points": fixed(0.5, 0.5, 0.05),
    "share_5": fixed(0.05, 0.7, -0.1),
    "rare_errors": fixed(0.05, 0.01, 0.02),
    "turning": turning,
}
"""Worlds whose arms differ."""
