"""`make bench-fairness`: what one tenant's burst does to another one's p95. Two workers, a fake engine.

A quiet tenant sends its requests at a steady pace, alone and then beside another tenant's burst that keeps
all places taken and a long queue waiting. The phases take turns; the figure is the ratio of its
p95s, the median of the rounds. `first_come` is the same with both as one tenant: turns as they came.
Then two tenants of weights 3 and 1 keep all places taken: how far are their shares from 3 and 1 of 4?
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.common.machine import busy_share
from loadtests.common.processes import StartFailed, end_in_order
from loadtests.common.quantiles import quantile
from loadtests.common.report import Sheet, console_for_people, number, publish
from loadtests.common.service import Service, fake_engine, served
from loadtests.fairness.load import Client, Counts, crowd, paced

BENCH = "bench-fairness"
FULL = {"rounds": 5, "seconds": 15.0, "places": 16, "crowd": 120, "pace": 8.0}
QUICK = {"rounds": 1, "seconds": 6.0}
WORKERS = 2
TOKEN_MS = 10.0
LONGEST = 40
WEIGHTS = {"heavy": 3.0, "light": 1.0}
GOAL = 1.5
SETTLE_S = 1.5


@dataclass
class Round:
    """What one round has shown: the quiet tenant's latencies in milliseconds, by phase."""

    alone: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    first_come: list[float] = field(default_factory=list)
    shares: dict[str, float] = field(default_factory=dict)
    failed: int = 0


def p95(latencies_ms: list[float]) -> float:
    """Return the 95th percentile."""
    return quantile(sorted(round(one * 1000) for one in latencies_ms), 0.95) / 1000


def figures_of(rounds: list[Round], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by name: medians over the rounds of ratios within a round."""
    heavy = WEIGHTS["heavy"] / sum(WEIGHTS.values())
    return {
        "p95_ratio_under_burst": _median([p95(one.burst) / p95(one.alone) for one in rounds]),
        "more": {
            "p95_ratio_first_come": _median([p95(one.first_come) / p95(one.alone) for one in rounds]),
            "p95_ms": {
                name: _median([p95(getattr(one, name)) for one in rounds])
                for name in ("alone", "burst", "first_come")
            },
            "p95_ratios": [round(p95(one.burst) / p95(one.alone), 3) for one in rounds],
            "share_of_weight_3_in_4": _median([one.shares["heavy"] for one in rounds]),
            "largest_share_error": round(max(abs(one.shares["heavy"] - heavy) for one in rounds), 4),
            "share_as_connections_fall": [round(one.shares["as_they_fall"], 3) for one in rounds],
            "share_on_one_worker": _median([one.shares["one_worker"] for one in rounds]),
            "quiet_requests": sum(len(one.burst) + len(one.alone) for one in rounds),
            "failed": sum(one.failed for one in rounds),
            "settings": settings,
        },
    }


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def sheet_of(figures: dict[str, Any]) -> Sheet:
    """Return the table."""
    more = figures["more"]
    rows = [
        ["alone", number(more["p95_ms"]["alone"], 0), "1.00"],
        ["beside a burst", number(more["p95_ms"]["burst"], 0), number(figures["p95_ratio_under_burst"], 2)],
        [
            "the same, first come first served",
            number(more["p95_ms"]["first_come"], 0),
            number(more["p95_ratio_first_come"], 2),
        ],
    ]
    fallen = ", ".join(f"{share:.1%}" for share in more["share_as_connections_fall"])
    weights = (
        f"Weights 3 and 1, both with some waiting: the first got {more['share_of_weight_3_in_4']:.1%}, "
        f"off by {more['largest_share_error']:.1%} at most in a round; with connections as the kernel gives "
        f"them to workers, by round: {fallen}."
    )
    narrow = (
        f"A tenant of weight 1 with all of its connections at one of the {WORKERS} workers got "
        f"{more['share_on_one_worker']:.1%} beside one of weight 1 at both: 25 % by the rule."
    )
    failed = f"{more['quiet_requests']:,} requests of the quiet tenant, {more['failed']} failed."
    return Sheet("A quiet tenant's p95", ["", "p95 ms", "ratio"], rows, [weights, narrow, failed])


@contextmanager
def house(options: argparse.Namespace) -> Iterator[tuple[Service, dict[str, str]]]:
    """Run engine and gateways; yield them with the tenants' keys."""
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        settings = {
            "TURNOUT_LIMITS__MAX_IN_FLIGHT_PER_REPLICA": str(options.places),
            "TURNOUT_LIMITS__MAX_QUEUE": str(4 * options.crowd),
            "TURNOUT_LIMITS__QUEUE_TIMEOUT_S": "60",
            "TURNOUT_ADMIN_KEY": "bench-of-fairness-alone",
        }
        with (
            fake_engine(folder / "engine.log", tokens=LONGEST, token_ms=TOKEN_MS) as (_, engine),
            served(
                folder, ["--workers", str(WORKERS), "--engine-url", engine], environment=settings
            ) as service,
        ):
            client = Client(service.url, "bench-of-fairness-alone")
            keys = {}
            for tenant in ("quiet", "burst", "both", *WEIGHTS, "spread", "narrow"):
                keys[tenant] = client.admin("POST", "/admin/keys", {"tenant": tenant})["key"]
            for tenant, weight in WEIGHTS.items():
                client.admin("PUT", f"/admin/limits/tenant/{tenant}", {"weight": weight})
            time.sleep(SETTLE_S)
            yield service, keys


async def one_round(
    service: Service, keys: dict[str, str], options: argparse.Namespace, dice: random.Random
) -> Round:
    """Run each phase once."""
    found, url = Round(), service.url

    async def quiet(key: str) -> list[float]:
        counts = Counts()
        await paced(
            url, keys[key], per_second=options.pace, seconds=options.seconds, dice=dice, counts=counts
        )
        found.failed += counts.failed
        return counts.latencies_ms

    found.alone = await quiet("quiet")
    for burst, mine, phase in (("burst", "quiet", "burst"), ("both", "both", "first_come")):
        stop = asyncio.Event()
        others = asyncio.create_task(crowd(url, {keys[burst]: options.crowd}, stop, dice=dice))
        await asyncio.sleep(SETTLE_S)
        setattr(found, phase, await quiet(mine))
        stop.set()
        await others
    found.shares = await shares(service, keys, options, dice)
    return found


async def shares(
    service: Service, keys: dict[str, str], options: argparse.Namespace, dice: random.Random
) -> dict[str, float]:
    """Return the share of the answers that the heavier tenant got, and one whose requests one worker has."""
    found = {}
    workers = service.pids("worker")
    for name, tenants, at in (
        ("heavy", ("heavy", "light"), {keys["heavy"]: workers, keys["light"]: workers}),
        ("as_they_fall", ("heavy", "light"), None),
        ("one_worker", ("narrow", "spread"), {keys["narrow"]: workers[:1], keys["spread"]: workers}),
    ):
        stop, ready = asyncio.Event(), asyncio.Event()
        wanted = {keys[tenant]: options.crowd for tenant in tenants}
        running = asyncio.create_task(crowd(service.url, wanted, stop, dice=dice, at=at, ready=ready))
        opened = asyncio.create_task(ready.wait())
        await asyncio.wait({running, opened}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running  # it failed
        await asyncio.sleep(options.seconds)
        stop.set()
        done = await running
        found[name] = done[keys[tenants[0]]].while_full / sum(counts.while_full for counts in done.values())
    return found


def main() -> int:
    """Run the benchmark; return 0 only when the goal is met and nothing failed."""
    options = _options()
    end_in_order()
    console = console_for_people()
    busy = busy_share()
    dice = random.Random(20)
    rounds: list[Round] = []
    try:
        with house(options) as (service, keys):
            for number_ in range(options.rounds):
                found = asyncio.run(one_round(service, keys, options, dice))
                rounds.append(found)
                _tell(console, number_, found)
    except StartFailed as error:
        console.print(f"  [red]failed:[/red] {error}")
        return 1
    settings = {name: getattr(options, name) for name in FULL}
    figures = figures_of(rounds, {**settings, "workers": WORKERS, "busy_before": round(busy, 2)})
    publish(
        BENCH, figures, sheet_of(figures), console=console, history=options.history, partial=settings != FULL
    )
    return 1 if figures["p95_ratio_under_burst"] > GOAL or figures["more"]["failed"] else 0


def _tell(console: Console, number_: int, found: Round) -> None:
    console.print(
        f"round {number_ + 1}: p95 {p95(found.alone):.0f} ms alone, {p95(found.burst):.0f} beside a burst, "
        f"{p95(found.first_come):.0f} first come first served; weight 3 of 4 got {found.shares['heavy']:.1%}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-fairness", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=FULL["rounds"])
    parser.add_argument("--seconds", type=float, default=FULL["seconds"], help="of each phase")
    parser.add_argument("--places", type=int, default=FULL["places"], help="of the engine, for all workers")
    parser.add_argument("--crowd", type=int, default=FULL["crowd"], help="requests of a burst at once")
    parser.add_argument("--pace", type=float, default=FULL["pace"], help="quiet requests a second")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        for name, value in QUICK.items():
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    raise SystemExit(main())
