"""`make bench-changes`: how soon a change made at one machine is in effect on all of them, over PostgreSQL.

Several `turnout serve`, each with a state directory of its own, share one PostgreSQL and one fake engine, and
serve a steady rate. Routes are changed at one machine after the other; each machine is asked for the
generation of its table until it has the change. Time counts from when the change was sent, so it includes
storing it. It is done twice: with the server's notifications, and with all of them lost, so that only polling
is left.

All machines are processes of one: what a network adds is not in it.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from loadtests.common.quantiles import quantile
from loadtests.common.report import Sheet, console_for_people, publish
from loadtests.common.service import Service, fake_engine, served
from tests.fake_engine import BASE_MODEL
from tests.postgresql import NotInstalled, Server, running

BENCH = "bench-changes"
WAYS = ("announced", "lost")
BOUNDS_MS = (25, 50, 100, 250, 500, 1000)
PATIENCE_S = 30.0
LOOK_S = 0.005
PAUSE_S = 0.1
BODY = {"model": BASE_MODEL, "prompt": "Say hello.", "max_tokens": 4}
SPEC = {"arms": [{"adapter": "base", "share": 1.0}]}


@dataclass(frozen=True)
class Reach:
    """One change at one machine: whether it was made there, and after how long it was in effect."""

    here: bool
    took_us: int


def main() -> int:
    """Run it; 0 only when every change came everywhere and no request failed."""
    parser = argparse.ArgumentParser(prog=BENCH, description=__doc__)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--changes", type=int, default=200, help="in each of the two ways")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second at each machine")
    parser.add_argument("--quick", action="store_true", help="20 changes")
    options = parser.parse_args()
    if options.quick:
        options.changes = 20
    console = console_for_people()
    figures: dict[str, Any] = {"machines": options.machines, "changes": options.changes, "ways": {}}
    try:
        for way in WAYS:
            with tempfile.TemporaryDirectory(prefix="changes-") as folder, running("fsync=on") as server:
                figures["ways"][way] = _measure(Path(folder), server, way, options, console)
    except NotInstalled as missing:
        console.print(f"not measured: {missing}")
        return 1
    publish(BENCH, figures, _sheet(figures), console=console, history=True, partial=options.quick)
    return 0 if all(not found["failed"] and not found["missing"] for found in figures["ways"].values()) else 1


@contextmanager
def _machines(folder: Path, url: str, engine_url: str, count: int) -> Iterator[list[Service]]:
    """Run so many services on one store until the block ends."""
    pepper = folder / "pepper"
    pepper.write_bytes(b"p" * 32)
    environment = {
        "TURNOUT_STORE__CONTROL_URL": url,
        "TURNOUT_STORE__REQUESTS_URL": url,
        "TURNOUT_AUTH__PEPPER_FILE": str(pepper),
        "TURNOUT_BASE__MODEL": "/no/such/base",
        "TURNOUT_BASE__SERVED_NAME": BASE_MODEL,
    }
    with ExitStack() as stack:
        found = []
        for number in range(count):
            own = folder / f"machine-{number}"
            own.mkdir()
            arguments = ["--engine-url", engine_url]
            found.append(stack.enter_context(served(own, arguments, environment=environment)))
        yield found


def _measure(
    folder: Path, server: Server, way: str, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    with (
        server.database() as url,
        fake_engine(folder / "engine.log", tokens=4, token_ms=1.0) as (_, engine_url),
    ):
        if way == "lost":
            server.lose_notifications(url)
        with _machines(folder, url, engine_url, options.machines) as services:
            console.print(f"{way}: {len(services)} machines are ready")
            return asyncio.run(_change(services, options))


async def _change(services: list[Service], options: argparse.Namespace) -> dict[str, Any]:
    reaches: list[Reach] = []
    failed, stored_us, missing = [0], [], 0
    async with httpx.AsyncClient(timeout=PATIENCE_S, trust_env=False) as http:
        asking = [asyncio.create_task(_ask(http, each.url, options.rate, failed)) for each in services]
        for number in range(options.changes):
            at = number % len(services)
            began = time.monotonic()
            answer = await http.put(f"{services[at].url}/admin/routes/r{number}", json={"spec": SPEC})
            answer.raise_for_status()
            stored_us.append(_since(began))
            generation = int(answer.json()["generation"])
            waits = [_reached(http, each.url, generation, began) for each in services]
            for index, took_us in enumerate(await asyncio.gather(*waits)):
                if took_us is None:
                    missing += 1
                else:
                    reaches.append(Reach(index == at, took_us))
            await asyncio.sleep(PAUSE_S)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    return {"failed": failed[0], "missing": missing, **_figures(reaches, stored_us)}


async def _reached(http: httpx.AsyncClient, url: str, generation: int, began: float) -> int | None:
    """Ask a machine until its table has a generation; return when, in microseconds; None: not in time."""
    while time.monotonic() - began < PATIENCE_S:
        table = (await http.get(f"{url}/readyz")).json().get("table") or {}
        if int(table.get("generation", 0)) >= generation:
            return _since(began)
        await asyncio.sleep(LOOK_S)
    return None


async def _ask(http: httpx.AsyncClient, url: str, rate: float, failed: list[int]) -> None:
    """Ask at a steady rate until cancelled."""
    while True:
        began = time.monotonic()
        try:
            answer = await http.post(f"{url}/v1/completions", json=BODY)
            failed[0] += answer.status_code != 200
        except httpx.HTTPError:
            failed[0] += 1
        await asyncio.sleep(max(0.0, 1 / rate - (time.monotonic() - began)))


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1_000_000)


def _figures(reaches: list[Reach], stored_us: list[int]) -> dict[str, Any]:
    """Return the distribution of the times, of the machine that took a change and of the others."""
    here = sorted(each.took_us for each in reaches if each.here)
    others = sorted(each.took_us for each in reaches if not each.here)
    every = sorted(here + others)
    return {
        "stored_p50_ms": _ms(sorted(stored_us), 0.5),
        "here_p50_ms": _ms(here, 0.5),
        "p50_ms": _ms(others, 0.5),
        "p95_ms": _ms(others, 0.95),
        "p99_ms": _ms(others, 0.99),
        "max_ms": round(every[-1] / 1000, 1),
        "over_1s": sum(took_us > 1_000_000 for took_us in every),
        "within": {str(bound): sum(took_us <= bound * 1000 for took_us in every) for bound in BOUNDS_MS},
        "reached": len(every),
    }


def _ms(values_us: list[int], share: float) -> float:
    return round(quantile(values_us, share) / 1000, 1)


def _sheet(figures: dict[str, Any]) -> Sheet:
    rows, notes = [], []
    for way, found in figures["ways"].items():
        names = ("stored_p50_ms", "here_p50_ms", "p50_ms", "p95_ms", "p99_ms", "max_ms", "over_1s")
        rows.append([way, str(found["reached"]), *(f"{found[name]:g}" for name in names)])
        shares = (f"{count / found['reached']:.1%} in {bound} ms" for bound, count in found["within"].items())
        notes.append(f"{way}: {', '.join(shares)}; {found['missing']} never came, {found['failed']} failed")
    return Sheet(
        f"{figures['changes']} changes on {figures['machines']} machines, from sending one to its effect",
        (
            "notifications",
            "reached",
            "stored p50",
            "here p50",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "max ms",
            "over 1 s",
        ),
        rows,
        notes=notes,
    )


if __name__ == "__main__":
    sys.exit(main())
