"""`make swap-storm`: versions are swapped under continuous load: is a request lost, or answered wrongly?

Clients ask one route without a pause, whole answers and streams in turn, through two gateway workers.
Meanwhile a version is added and the route set to it, over and over; every tenth time the route is rolled
back first. Every adapter answers unlike the others, so every answer proves which version gave it. Blocks
of swaps and quiet blocks alternate, so that both latencies come from the same minutes.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from loadtests.common.fingerprints import Fingerprints, of_fake, of_real
from loadtests.common.machine import commit
from loadtests.common.plain_client import Broken, PlainClient
from loadtests.common.processes import StartFailed, end_in_order
from loadtests.common.report import Sheet, console_for_people, keep_piece, kept_piece, number, publish
from loadtests.common.service import Service, await_route, fake_engine, real_engine, served
from loadtests.swaps.traffic import STALE_AFTER_S, Traffic, figures_of, keep_asking

BENCH = "swap-storm"
ROUTE = "storm"
WORKERS = 2
ROLLBACK_EVERY = 10
KEEP_VERSIONS = 3
"""Older ones are retired as the storm goes on, so that draining and unregistering are part of it."""

POLL_S = 0.05
SWAP_TIMEOUT_S = 120.0
MOST_RATIO = 1.2


@dataclass(frozen=True)
class Plan:
    """One storm. The fake engine's tokens take time, as an engine's do: without, a request is all gateway.

    A quiet block takes `quiet` times as long as the block of swaps before it.
    """

    engine: str
    swaps: int
    block: int
    clients: int
    tokens: int
    token_ms: float
    interval_s: float
    quiet: float = 1.0


PLANS = {
    "fake": Plan("fake", swaps=1000, block=50, clients=16, tokens=8, token_ms=10.0, interval_s=0.1),
    "real": Plan("real", swaps=200, block=20, clients=4, tokens=4, token_ms=0.0, interval_s=0.25, quiet=0.25),
}
QUICK = {"fake": 60, "real": 12}


class SwapFailed(Exception):
    """A swap did not come to its end."""


def main() -> int:
    """Run the storms; return 0 only when nothing was lost, wrong or stale."""
    options = _options()
    end_in_order()
    console = console_for_people()
    short = bool(options.quick or options.swaps)
    figures: dict[str, Any] = {}
    for engine in ("fake", "real") if options.engine == "both" else (options.engine,):
        plan = PLANS[engine]
        swaps = options.swaps or (QUICK[engine] if options.quick else plan.swaps)
        console.print(f"{engine} engine: {swaps} swaps under {plan.clients} clients, {WORKERS} workers")
        try:
            figures[engine] = _storm(plan, swaps, console, minutes=options.minutes)
        except (StartFailed, SwapFailed, httpx.HTTPError) as error:
            console.print(f"  [red]failed:[/red] {error}")
            return 1
        short = short or figures[engine]["swaps"] < plan.swaps
        if not short:
            keep_piece(BENCH, engine, figures[engine])
    clean_now = all(clean(found) for found in figures.values())
    if not short:  # a run of one engine goes on from the last one of the other
        figures = {name: figures.get(name) or found for name in PLANS if (found := kept_piece(BENCH, name))}
    whole = {**figures["real"], "fake": figures.get("fake")} if "real" in figures else figures["fake"]
    full = not short and len(figures) == len(PLANS)
    publish(BENCH, whole, sheet_of(figures), console=console, history=options.history, partial=not full)
    return 0 if clean_now else 1


def clean(figures: dict[str, Any]) -> bool:
    """Whether nothing was lost, wrong or stale."""
    return not any(figures[name] for name in ("failed", "wrong_version", "stale_after_flip"))


def sheet_of(figures: dict[str, dict[str, Any]]) -> Sheet:
    """Return the table: a row a figure, a column an engine."""
    names = [
        *("workers", "swaps", "requests", "failed", "wrong_version", "stale_after_flip"),
        *("p99_ms_steady", "p99_ms_swapping"),
    ]
    rows = [
        [name, *(number(found[name], 1 if "ms" in name else 0) for found in figures.values())]
        for name in names
    ]
    rows.append(["p99 ratio", *(number(found["more"]["p99_ratio"], 2) for found in figures.values())])
    notes = []
    for engine, found in figures.items():
        notes.append(f"{engine}: commit {found['more']['commit']}")
        notes += [f"{engine}: {count} x {text}" for text, count in found["more"]["failures"].items()]
        notes += [f"{engine}: {count} x {text}" for text, count in found["more"]["wrong"].items()]
    if "fake" in figures:
        kept = figures["fake"]["more"]["p99_ratio"] <= MOST_RATIO
        notes.append(
            f"p99 while swapping is {'at most' if kept else 'MORE than'} {MOST_RATIO:g} x steady (fake)."
        )
    return Sheet("Swaps under load", ["", *figures], rows, notes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make swap-storm", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--engine", choices=["both", "fake", "real"], default="both")
    parser.add_argument("--swaps", type=int, help="another number than 200 (real) and 1,000 (fake)")
    parser.add_argument("--minutes", type=float, help="begin no more swaps after so long in a storm")
    parser.add_argument("--quick", action="store_true", help="few swaps, not kept as history")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    return parser.parse_args()


def _storm(plan: Plan, swaps: int, console: Console, *, minutes: float | None) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swap-storm-")))
        log = folder / "engine.log"
        if plan.engine == "fake":
            _, url = stack.enter_context(fake_engine(log, tokens=plan.tokens, token_ms=plan.token_ms))
            prints = of_fake(folder / "made", swaps + 1)
        else:
            _, url = stack.enter_context(real_engine(log))
            prints = of_real(folder / "made", swaps + 1, url, console=console)
        environment = {"TURNOUT_CONTROLLER__INTERVAL_S": str(plan.interval_s)}
        arguments = ["--engine-url", url, "--workers", str(WORKERS)]
        service = stack.enter_context(served(folder, arguments, environment=environment))
        service.admin("POST", "/admin/adapters", {"name": ROUTE, "source": str(prints.folder(1))})
        await_route(service, ROUTE)
        time.sleep(STALE_AFTER_S)  # within which every worker applies it
        until = time.monotonic() + 60 * minutes if minutes else float("inf")
        return asyncio.run(_run(plan, swaps, prints, service, console, until=until))


async def _run(
    plan: Plan, swaps: int, prints: Fingerprints, service: Service, console: Console, *, until: float
) -> dict[str, Any]:
    traffic = Traffic(
        service.url,
        ROUTE,
        prints.prompt,
        plan.tokens,
        check=prints.check,
        ask_logprobs=plan.engine == "fake",
    )
    swapper = Swapper(service.url, prints)
    await keep_asking(
        traffic,
        clients=plan.clients,
        meanwhile=lambda: _blocks(plan, swaps, traffic, swapper, console, until=until),
    )
    figures = figures_of(traffic.seen, await swapper.flips())
    swapper.close()
    steady = figures["p99_ms_steady"]
    figures["more"] |= {
        "p99_ratio": round(figures["p99_ms_swapping"] / steady, 3) if steady else 0.0,
        "swap_s_median": round(sorted(swapper.took_s)[len(swapper.took_s) // 2], 3),
        "swap_s_max": round(max(swapper.took_s), 3),
        "clients": plan.clients,
        "tokens": plan.tokens,
        "token_ms": plan.token_ms,
        "controller_interval_s": plan.interval_s,
        "commit": commit(),
        "rollbacks": swapper.rollbacks,
    }
    return {"engine": plan.engine, "workers": WORKERS, "swaps": len(swapper.took_s), **figures}


async def _blocks(
    plan: Plan, swaps: int, traffic: Traffic, swapper: "Swapper", console: Console, *, until: float
) -> None:
    while (before := len(swapper.took_s)) < swaps and time.monotonic() < until:
        traffic.phase, began = "swapping", time.monotonic()
        while (done := len(swapper.took_s)) < min(before + plan.block, swaps) and time.monotonic() < until:
            await swapper.swap()
        swapping_s = time.monotonic() - began
        traffic.phase = "steady"
        swapper.close()  # the service closes connections that are idle for so long
        await asyncio.sleep(plan.quiet * swapping_s)
        bad = sum(1 for each in traffic.seen if each.failed or each.wrong)
        console.print(
            f"  {done} of {swaps} swaps, {swapping_s / max(1, done - before):.2f} s each, "
            f"{len(traffic.seen)} requests, {bad} failed or wrong"
        )
        sys.stdout.flush()


class Swapper:
    """Adds versions and sets the route to them, over a connection of its own."""

    def __init__(self, url: str, prints: Fingerprints) -> None:
        self.took_s: list[float] = []
        self.rollbacks = 0
        self._client = PlainClient(url)
        self._prints = prints
        self._newest = 1

    async def swap(self) -> None:
        """Add the next version and wait until the route is on it; now and then roll back first.

        Raises:
            SwapFailed: a step was refused, or the route did not follow.
        """
        if self._newest > 1 and self._newest % ROLLBACK_EVERY == 0:
            await self._call("POST", f"/admin/routes/{ROUTE}/rollback", {})
            await self._follow()
            self.rollbacks += 1
        began = time.monotonic()
        self._newest += 1
        source = str(self._prints.folder(self._newest))
        added = await self._call("POST", "/admin/adapters", {"name": ROUTE, "source": source})
        if added["version"] != self._newest:
            raise SwapFailed(f"version {self._newest} was numbered {added['version']}")
        arms = [{"adapter": f"{ROUTE}@{self._newest}", "share": 1.0}]
        await self._call("PUT", f"/admin/routes/{ROUTE}", {"spec": {"arms": arms}})
        await self._follow()
        self.took_s.append(time.monotonic() - began)
        if self._newest > KEEP_VERSIONS:
            await self._call("DELETE", f"/admin/adapters/{ROUTE}/{self._newest - KEEP_VERSIONS}")

    async def flips(self) -> list[tuple[float, str]]:
        """Return when the route went to which version, in order."""
        found: list[tuple[float, str]] = []
        before = ""
        while True:
            page = await self._call("GET", f"/admin/routes/{ROUTE}/history?limit=1000{before}")
            found += [
                (event["at"], event["after"]["effective_arms"][0]["adapter"])
                for event in page["data"]
                if event["action"] == "route.flip"
            ]
            if page["next_before_id"] is None:
                return found[::-1]
            before = f"&before_id={page['next_before_id']}"

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def _follow(self) -> None:
        deadline = time.monotonic() + SWAP_TIMEOUT_S
        while True:
            route = await self._call("GET", f"/admin/routes/{ROUTE}")
            status = route["status"]
            if status["state"] == "active" and status["active_generation"] == route["generation"]:
                return
            if status["state"] == "failed" or time.monotonic() > deadline:
                raise SwapFailed(f"the route did not follow: {status}")
            await asyncio.sleep(POLL_S)

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        try:
            answer = await self._client.call(method, path, body)
        except Broken as error:
            raise SwapFailed(f"{method} {path}: {error}") from error
        if answer.status >= 400:
            raise SwapFailed(f"{method} {path}: {answer.status} {answer.body[:300].decode(errors='replace')}")
        return answer.json()


if __name__ == "__main__":
    sys.exit(main())
