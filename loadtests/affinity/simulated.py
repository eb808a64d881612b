"""Placement by simulation: the controller's own decisions on modelled engines, beside three other policies.

    python -m loadtests.affinity.simulated --replicas 16 --adapters 1000

Closed loop: every client sends its next request when the last is answered. Adapters are drawn by Zipf's law;
each has its own system prompt. What is modelled is the engines (`affinity_engine.py`), workers' polls and the
controller's turns as delays; what is real is `Planner`, `place`, `Meter` and the pool's `least_loaded`.
"""

import argparse
import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

from gateway.controller.placement import Slots, Standing
from gateway.controller.planner import Planner, PlannerConfig, Report
from gateway.core.refs import VersionRef
from gateway.replicas.meter import Meter
from gateway.replicas.policies import least_loaded
from gateway.replicas.replica import Replica
from gateway.store.placement import Usage
from gateway.upstream.origin import Origin
from loadtests.affinity.engine import Costs, EngineSize, Job, ModelEngine
from loadtests.common.quantiles import quantile

POLICIES = ("round_robin", "least_loaded", "hash", "placement")
TURN_MS = 500.0
COLD_TURN_MS = 50.0
"""How long after a cold request the controller and the worker notice, each."""


@dataclass(frozen=True)
class Setting:
    """One simulated fleet and its traffic: a closed loop of clients, or `rate` requests a second."""

    replicas: int = 16
    adapters: int = 1000
    zipf: float = 1.0
    clients_per_replica: int = 6
    rate: float | None = None
    requests: int = 12_000
    warm_up: float = 0.3
    prefix: tuple[int, int] = (400, 800)
    suffix: tuple[int, int] = (10, 40)
    output: int = 16
    size: EngineSize = field(
        default_factory=lambda: EngineSize(kv_tokens=16_384, max_cpu_loras=32, max_loras=8)
    )
    costs: Costs = field(default_factory=Costs)
    prefix_caching: bool = True
    seed: int = 7


@dataclass
class Outcome:
    """What came of one policy."""

    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    cached_share: float
    cold_loads: int
    moves: int
    waited: int
    longest_wait_ms: float


class Simulation:
    """One policy on one setting. Deterministic by its seed."""

    def __init__(self, setting: Setting, policy: str) -> None:
        self._setting = setting
        self._policy = policy
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._engines = [
            ModelEngine(setting.size, setting.costs, prefix_caching=setting.prefix_caching)
            for _ in range(setting.replicas)
        ]
        origin = Origin.parse("http://127.0.0.1:1")
        self._replicas = [Replica(f"r{i:02d}", origin, 10_000) for i in range(setting.replicas)]
        self._index = {replica.id: i for i, replica in enumerate(self._replicas)}
        self._ticking: set[int] = set()
        names = [f"a{i:04d}" for i in range(setting.adapters)]
        rng = random.Random(setting.seed)
        self._prefix = {name: rng.randint(*setting.prefix) for name in names}
        weights = [1 / (rank + 1) ** setting.zipf for rank in range(setting.adapters)]
        self._names: Iterator[str] = _draws(names, weights, rng)
        self._rng = rng
        self._turn = 0
        self._ended: list[tuple[float, float]] = []
        self._control = _Control(self) if policy == "placement" else None

    def run(self) -> Outcome:
        """Run until enough requests are answered."""
        if self._control is not None:
            self._control.start(sorted(self._prefix))
        if self._setting.rate is not None:
            self._arrive(self._setting.rate)
        else:
            for _ in range(self._setting.clients_per_replica * self._setting.replicas):
                self._client()
        while len(self._ended) < self._setting.requests:
            self._now, _, action = heapq.heappop(self._events)
            action()
        return self._outcome()

    # --- what the parts use -------------------------------------------------------------------------------

    @property
    def now_ms(self) -> float:
        """The simulated time."""
        return self._now

    @property
    def setting(self) -> Setting:
        """The setting."""
        return self._setting

    @property
    def replica_ids(self) -> list[str]:
        """Every replica's id."""
        return [replica.id for replica in self._replicas]

    def after(self, delay_ms: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._events, (self._now + delay_ms, next(self._number), action))

    def submit(self, replica: str, job: Job) -> None:
        """Give a job to an engine."""
        number = self._index[replica]
        self._engines[number].submit(job, self._now)
        self._tick(number)

    def send(self, candidates: Sequence[str], job: Job) -> None:
        """Send a request to the least loaded of some replicas."""
        among = [self._replicas[self._index[replica]] for replica in candidates]
        self._turn += 1
        best = least_loaded(among, turn=self._turn)
        if best is None:
            raise RuntimeError("replicas of the simulation have no limit")
        best.in_flight += 1
        ended = job.on_end

        def end(now: float) -> None:
            best.in_flight -= 1
            ended(now)

        job.on_end = end
        self.submit(best.id, job)

    # --- inside -------------------------------------------------------------------------------------------

    def _tick(self, number: int) -> None:
        engine = self._engines[number]
        if number in self._ticking or engine.next_at is None:
            return
        self._ticking.add(number)

        def step() -> None:
            self._ticking.discard(number)
            engine.finish_step(self._now)
            self._tick(number)

        self.after(engine.next_at - self._now, step)

    def _arrive(self, rate: float) -> None:
        self._client()
        self.after(self._rng.expovariate(rate) * 1000, lambda: self._arrive(rate))

    def _client(self) -> None:
        name, began = next(self._names), self._now
        setting = self._setting
        first: list[float] = []

        def end(now: float) -> None:
            self._ended.append((now, first[0] - began))
            if self._control is not None:
                self._control.left(name)
            if self._setting.rate is None:
                self.after(0.0, self._client)

        job = Job(
            name,
            self._prefix[name],
            self._rng.randint(*setting.suffix),
            setting.output,
            on_first=first.append,
            on_end=end,
        )
        ids = self.replica_ids
        if self._control is not None:
            self._control.request(name, job)
        elif self._policy == "round_robin":
            self._turn += 1
            self.send([ids[self._turn % len(ids)]], job)
        elif self._policy == "hash":
            digest = blake2b(name.encode(), digest_size=8).digest()
            self.send([ids[int.from_bytes(digest, "big") % len(ids)]], job)
        else:
            self.send(ids, job)

    def _outcome(self) -> Outcome:
        skipped = int(len(self._ended) * self._setting.warm_up)
        counted = self._ended[skipped:]
        elapsed_s = (counted[-1][0] - self._ended[skipped - 1][0]) / 1000
        ttfts = sorted(ttft for _, ttft in counted)
        cached = sum(engine.cached_tokens for engine in self._engines)
        prefilled = sum(engine.prefilled_tokens for engine in self._engines)
        control = self._control
        return Outcome(
            tokens_per_s=len(counted) * self._setting.output / elapsed_s,
            ttft_p50_ms=quantile(ttfts, 0.5),
            ttft_p95_ms=quantile(ttfts, 0.95),
            cached_share=cached / (cached + prefilled),
            cold_loads=control.cold_loads if control else sum(e.cold_loads for e in self._engines),
            moves=control.moves if control else 0,
            waited=control.waited if control else 0,
            longest_wait_ms=control.longest_wait_ms if control else 0.0,
        )


class _Control:
    """Controller and workers' slow path: turns, cold loads with an attestation each, one load a version."""

    def __init__(self, simulation: Simulation) -> None:
        self.cold_loads = self.moves = self.waited = 0
        self.longest_wait_ms = 0.0
        self._simulation = simulation
        self._planner = Planner(PlannerConfig())
        size = simulation.setting.size
        self._slots = {r: Slots(size.max_loras, size.max_cpu_loras) for r in simulation.replica_ids}
        self._meter = Meter(clock=lambda: simulation.now_ms / 1000)
        self._used_at: dict[str, float] = {}
        self._others: dict[VersionRef, float] = {}
        self._homes: dict[VersionRef, tuple[str, ...]] = {}
        self._attested: dict[str, set[VersionRef]] = {r: set() for r in self._slots}
        self._attested_at: dict[VersionRef, float] = {}
        self._coming: set[tuple[str, VersionRef]] = set()
        self._waiting: dict[str, list[tuple[float, Job]]] = {}
        self._in_flight: dict[str, int] = {}

    def start(self, names: Sequence[str]) -> None:
        """Begin with everything registered that fits, and take turns."""
        self._others = {VersionRef(name, 1): 0.0 for name in names}
        placement = self._plan()
        for replica, refs in placement.on.items():
            self._attested[replica] = set(refs)
        self._simulation.after(TURN_MS, self._take_turns)

    def request(self, name: str, job: Job) -> None:
        """Send a request to its adapter's home, or let it wait for a cold load."""
        self._meter.count(name)
        self._used_at[name] = self._simulation.now_ms / 1000
        self._in_flight[name] = self._in_flight.get(name, 0) + 1
        if not self._send(name, job):
            self.waited += 1
            if name not in self._waiting:
                self._simulation.after(COLD_TURN_MS, self._turn)
            self._waiting.setdefault(name, []).append((self._simulation.now_ms, job))

    def left(self, name: str) -> None:
        """A request of a version has ended."""
        self._in_flight[name] -= 1
        if not self._in_flight[name]:
            del self._in_flight[name]

    def _send(self, name: str, job: Job) -> bool:
        ref = VersionRef(name, 1)
        places = [replica for replica, refs in self._attested.items() if ref in refs]
        known = self._homes.get(ref, ()) if self._simulation.setting.prefix_caching else ()
        homes = [replica for replica in known if replica in places]
        if places:
            self._simulation.send(homes or places, job)
        return bool(places)

    def _take_turns(self) -> None:
        self._turn()
        self._simulation.after(TURN_MS, self._take_turns)

    def _turn(self) -> None:
        placement = self._plan()
        for replica, refs in placement.on.items():
            self._attested[replica] &= set(refs)
            for ref in refs:
                if ref not in self._attested[replica] and (replica, ref) not in self._coming:
                    self._load(replica, ref)

    def _plan(self) -> Any:
        now = self._simulation.now_ms / 1000
        usage = {
            VersionRef(name, 1): Usage(known.count, self._used_at[name])
            for name, known in self._meter.report().items()
        }
        in_flight = {
            VersionRef(name, 1): count for name, count in self._in_flight.items() if name not in self._waiting
        }
        report = Report(
            at=now,
            others=self._others,
            usage=usage,
            in_flight=in_flight,
            waiting={VersionRef(name, 1): jobs[0][0] / 1000 for name, jobs in self._waiting.items()},
            attested_at=self._attested_at,
        )
        standing = Standing(self._homes, {r: frozenset(refs) for r, refs in self._attested.items()})
        placement = self._planner.plan(report, self._slots, standing)
        for ref, homes in placement.homes.items():
            before = self._homes.get(ref)
            if before is not None and not set(before) & set(homes):
                self.moves += 1
        self._homes = dict(placement.homes)
        return placement

    def _load(self, replica: str, ref: VersionRef) -> None:
        self._coming.add((replica, ref))
        self.cold_loads += 1
        setting = self._simulation.setting

        def attested(_: float) -> None:
            self._coming.discard((replica, ref))
            self._attested[replica].add(ref)
            self._attested_at[ref] = self._simulation.now_ms / 1000
            self._simulation.after(COLD_TURN_MS, lambda: self._release(ref))

        probe = Job(ref.name, 0, setting.costs.attest_tokens, 1, on_first=lambda _: None, on_end=attested)
        self._simulation.after(setting.costs.cold_load_ms, lambda: self._simulation.submit(replica, probe))

    def _release(self, ref: VersionRef) -> None:
        for began, job in self._waiting.pop(ref.name, []):
            self.longest_wait_ms = max(self.longest_wait_ms, self._simulation.now_ms - began)
            if not self._send(ref.name, job):
                self._waiting.setdefault(ref.name, []).append((began, job))


def _draws(names: list[str], weights: list[float], rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.choices(names, weights, k=1000)


def compare(setting: Setting) -> dict[str, Outcome]:
    """Run every policy on one setting."""
    return {policy: Simulation(setting, policy).run() for policy in POLICIES}


def at_equal_load(setting: Setting, saturated: dict[str, Outcome]) -> dict[str, Outcome]:
    """Run every policy with as many requests a second as 80 % of what least-loaded can answer."""
    rate = 0.8 * saturated["least_loaded"].tokens_per_s / setting.output
    return compare(replace(setting, rate=rate))


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--replicas", type=int, default=16)
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--zipf", type=float, default=1.0)
    parser.add_argument("--clients", type=int, default=6, help="for each replica")
    parser.add_argument("--requests", type=int, default=12_000)
    parser.add_argument("--kv-tokens", type=int, default=16_384)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--max-loras", type=int, default=8)
    parser.add_argument("--no-prefix-cache", action="store_true")
    parser.add_argument("--seed", type=int, default=Setting.seed)
    options = parser.parse_args()
    setting = Setting(
        replicas=options.replicas,
        adapters=options.adapters,
        zipf=options.zipf,
        clients_per_replica=options.clients,
        requests=options.requests,
        size=EngineSize(options.kv_tokens, options.slots, options.max_loras),
        prefix_caching=not options.no_prefix_cache,
        seed=options.seed,
    )
    saturated = compare(setting)
    for load, outcomes in (("closed loop", saturated), ("equal load", at_equal_load(setting, saturated))):
        for policy, outcome in outcomes.items():
            print(json.dumps({"load": load, "policy": policy, **vars(outcome)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
