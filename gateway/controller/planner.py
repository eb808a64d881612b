"""From what workers and replicas report to a placement: the part of the decision that knows time."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gateway.controller.placement import Demand, Placement, Slots, Standing, place
from gateway.core.refs import VersionRef
from gateway.core.routes import Route
from gateway.replicas.meter import HALF_LIFE_S, rate_of
from gateway.store.placement import Usage

BALANCE_EVERY_S = 5.0
ENOUGH_REQUESTS = 32.0
"""Decayed requests of the whole fleet below which loads are noise, and no home moves for balance."""


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """How to plan. Times are seconds.

    After `patience_s` a waiting version displaces a busy one; one that was just attested stays for `stay_s`.
    """

    pins: frozenset[VersionRef] = frozenset()
    min_ready: int = 1
    patience_s: float = 3.0
    stay_s: float = 2.0
    half_life_s: float = HALF_LIFE_S


@dataclass(frozen=True, slots=True)
class Report:
    """What is known at one moment; times are seconds since the epoch.

    `usage` and `in_flight` are summed over the workers, `waiting` says since when requests wait for a
    version, `expected` is the load (requests a second) that a version will get when its swap is done,
    `attested_at` is when a version that stands was last attested.
    """

    at: float
    serving: frozenset[VersionRef] = frozenset()
    wanted: frozenset[VersionRef] = frozenset()
    others: Mapping[VersionRef, float] = field(default_factory=dict)
    shadows: frozenset[VersionRef] = frozenset()
    usage: Mapping[VersionRef, Usage] = field(default_factory=dict)
    in_flight: Mapping[VersionRef, int] = field(default_factory=dict)
    waiting: Mapping[VersionRef, float] = field(default_factory=dict)
    expected: Mapping[VersionRef, float] = field(default_factory=dict)
    attested_at: Mapping[VersionRef, float] = field(default_factory=dict)


class Planner:
    """Makes placements one after the other. It remembers only when it last looked at the balance."""

    def __init__(self, config: PlannerConfig) -> None:
        self._config = config
        self._balanced_at = float("-inf")

    def plan(self, report: Report, replicas: Mapping[str, Slots], standing: Standing) -> Placement:
        """Return what shall stand where now."""
        return place(self.demand(report), replicas, standing)

    def demand(self, report: Report) -> Demand:
        """Return the demand of this moment; every `BALANCE_EVERY_S` one on which homes may move."""
        config, now = self._config, report.at
        load = {
            ref: rate_of(usage.count, half_life_s=config.half_life_s)
            for ref, usage in report.usage.items()
            if usage.count > 0
        }
        for ref, expected in report.expected.items():
            load[ref] = max(load.get(ref, 0.0), expected)
        enough = sum(usage.count for usage in report.usage.values()) >= ENOUGH_REQUESTS
        # A clock that was set back must not stop the balance for as long.
        steady = enough and not 0 <= now - self._balanced_at < BALANCE_EVERY_S
        if steady:
            self._balanced_at = now
        return Demand(
            serving=report.serving,
            wanted=report.wanted,
            others=report.others,
            shadows=report.shadows,
            pins=config.pins,
            waiting=report.waiting,
            overdue=frozenset(r for r, since in report.waiting.items() if now - since >= config.patience_s),
            fresh=frozenset(r for r, at in report.attested_at.items() if 0 <= now - at < config.stay_s),
            busy=frozenset(report.in_flight),
            load=load,
            used_at={ref: usage.used_at for ref, usage in report.usage.items()},
            steady=steady,
            min_ready=config.min_ready,
        )


def expected_load(
    routes: Iterable[Route], usage: Mapping[VersionRef, Usage], *, half_life_s: float = HALF_LIFE_S
) -> dict[VersionRef, float]:
    """Return the load that the arms of specs in preparation will get: their share of their route's."""
    found: dict[VersionRef, float] = {}
    for route in routes:
        if route.status.active_generation == route.generation:
            continue
        now = {VersionRef.parse(arm.adapter) for arm in route.status.effective_arms}
        count = sum(usage[ref].count for ref in now if ref is not None and ref in usage)
        for arm in route.spec.arms:
            ref = VersionRef.parse(arm.adapter)
            if ref is not None and count > 0:
                load = arm.share * rate_of(count, half_life_s=half_life_s)
                found[ref] = found.get(ref, 0.0) + load
    return found
