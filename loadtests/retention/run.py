"""`make bench-retention`: old rows are removed from ten million while a gateway serves.

For each kind of store: a requests table is filled, `turnout serve` runs on it over a fake engine, and clients
ask at a steady rate. After a while without removals the settings get a retention by which the oldest part is
too old, and SIGHUP has the controller begin. What clients wait for is compared with the time before, in the
same run.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from sqlalchemy import text

from gateway.store.database import Database
from loadtests.common.quantiles import quantile
from loadtests.common.report import Sheet, console_for_people, publish
from loadtests.common.service import Service, fake_engine, served
from loadtests.retention.rows import DAY_S, fill
from tests.fake_engine import BASE_MODEL
from tests.postgresql import NotInstalled, running

BENCH = "bench-retention"
STORES = ("sqlite", "postgresql")
DAYS = 100
"""Over how many days the rows are spread."""

PATIENCE_S = 3600.0
BODY = {"model": BASE_MODEL, "prompt": "Say hello.", "max_tokens": 4}
_LOOK_S = 0.5
_WORST = {
    "waiting_rows": "turnout_record_queue_rows",
    "loop_lag_s": "turnout_event_loop_lag_seconds",
    "table_age_s": "turnout_table_age_seconds",
}


@dataclass
class Clients:
    """Requests at a steady rate, whether or not the ones before are answered."""

    url: str
    rate: float
    took_us: list[int] = field(default_factory=list)
    failed: int = 0

    async def run(self, http: httpx.AsyncClient) -> None:
        """Ask until cancelled."""
        began, sent = time.monotonic(), 0
        tasks: set[asyncio.Task[None]] = set()
        while True:
            task = asyncio.create_task(self._ask(http))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
            await asyncio.sleep(max(0.0, began + sent / self.rate - time.monotonic()))

    async def _ask(self, http: httpx.AsyncClient) -> None:
        began = time.monotonic()
        try:
            answer = await http.post(f"{self.url}/v1/completions", json=BODY)
            well = answer.status_code == 200
        except httpx.HTTPError:
            well = False
        self.failed += not well
        self.took_us.append(int((time.monotonic() - began) * 1_000_000))

    def taken(self) -> dict[str, float]:
        """Return what clients waited since the last call, and begin anew."""
        took_us, self.took_us = sorted(self.took_us), []
        failed, self.failed = self.failed, 0
        return {
            "requests": len(took_us),
            "failed": failed,
            "p50_ms": quantile(took_us, 0.5) / 1000,
            "p99_ms": quantile(took_us, 0.99) / 1000,
            "max_ms": took_us[-1] / 1000,
        }


@dataclass(frozen=True)
class Place:
    """Where a store is: both URLs, and how large it has become."""

    control_url: str
    requests_url: str
    size_mb: Callable[[], float]


def main() -> int:
    """Run it; 0 only when no request failed and no row was dropped."""
    parser = argparse.ArgumentParser(prog=BENCH, description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--remove", type=float, default=0.1, help="the share of the rows that is too old")
    parser.add_argument("--rate", type=float, default=40.0, help="requests a second")
    parser.add_argument("--steady-s", type=float, default=30.0, help="how long without removals")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=list(STORES))
    parser.add_argument("--quick", action="store_true", help="100,000 rows and 5 s")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.steady_s = 100_000, 5.0
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup the service would ignore it too
    console = console_for_people()
    figures: dict[str, Any] = {"rows": options.rows, "removed": {}, "stores": {}}
    for kind in options.stores:
        try:
            with (
                tempfile.TemporaryDirectory(prefix="retention-") as folder,
                _place(kind, Path(folder)) as place,
            ):
                figures["stores"][kind] = asyncio.run(_measure(place, Path(folder), options, console))
        except NotInstalled as missing:
            console.print(f"{kind}: left out, {missing}")
    partial = options.quick or set(options.stores) != set(STORES) or set(figures["stores"]) != set(STORES)
    figures["removed"] = {kind: found["removed_rows"] for kind, found in figures["stores"].items()}
    publish(BENCH, figures, _sheet(figures), console=console, history=True, partial=partial)
    well = [not found["failed"] and not found["dropped"] for found in figures["stores"].values()]
    return 0 if well and all(well) else 1


@contextmanager
def _place(kind: str, folder: Path) -> Iterator[Place]:
    """Give a store of a kind until the block ends."""
    if kind == "sqlite":
        state = folder / "state"
        control, requests = (f"sqlite:///{state}/{name}.db" for name in ("control", "requests"))
        files = "requests.db*"
        yield Place(control, requests, lambda: sum(path.stat().st_size for path in state.glob(files)) / 1e6)
        return
    with running("fsync=on", "max_wal_size=4GB") as server, server.database() as url:
        database = Database(url, "requests")

        def size_mb() -> float:
            with database.read() as connection:
                size = connection.execute(text("SELECT pg_database_size(current_database())"))
                return float(size.scalar_one()) / 1e6

        try:
            yield Place(url, url, size_mb)
        finally:
            database.close()


async def _measure(
    place: Place, folder: Path, options: argparse.Namespace, console: Console
) -> dict[str, Any]:
    database = Database(place.requests_url, "requests", durable=False)
    now = time.time()
    try:
        database.migrate()
        began = time.monotonic()
        fill(database, options.rows, since=now - DAYS * DAY_S, until=now - 60)
        filled_s, size_mb = time.monotonic() - began, place.size_mb()
        console.print(f"{options.rows:,} rows, {size_mb:,.0f} MB, in {filled_s:.0f} s")
        environment = {
            "TURNOUT_STORE__CONTROL_URL": place.control_url,
            "TURNOUT_STORE__REQUESTS_URL": place.requests_url,
            "TURNOUT_BASE__MODEL": "/no/such/base",
            "TURNOUT_BASE__SERVED_NAME": BASE_MODEL,
        }
        config = folder / "turnout.toml"
        config.write_text("[retention]\nrequests_h = 0\n", encoding="utf-8")
        arguments = ["--config", str(config)]
        with (
            fake_engine(folder / "engine.log", tokens=4, token_ms=1.0) as (_, url),
            served(folder, [*arguments, "--engine-url", url], environment=environment) as service,
        ):
            kept_h = DAYS * (1 - options.remove) * 24
            found = await _watch(service, database, config, kept_h=kept_h, options=options)
    finally:
        database.close()
    return {"filled_s": round(filled_s, 1), "size_mb": round(size_mb), **found}


async def _watch(
    service: Service, database: Database, config: Path, *, kept_h: float, options: argparse.Namespace
) -> dict[str, Any]:
    """Serve for a while, then have rows removed while it serves. Both are looked at as often."""
    old = time.time() - kept_h * 3600
    before = await asyncio.to_thread(_rows_before, database, old)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        clients = Clients(service.url, options.rate)
        asking = asyncio.create_task(clients.run(http))
        await asyncio.sleep(2.0)  # connections are made, caches are warm
        clients.taken()
        began = time.monotonic()
        seen = await _look(http, service.url, lambda: time.monotonic() - began < options.steady_s)
        steady = {**clients.taken(), **seen}
        await asyncio.to_thread(config.write_text, f"[retention]\nrequests_h = {kept_h}\n")
        service.process._popen.send_signal(signal.SIGHUP)  # noqa: SLF001 - a process of ours
        began = time.monotonic()
        seen = await _look(http, service.url, lambda: _oldest(database) < old - 1)
        took_s = time.monotonic() - began
        removing = {**clients.taken(), **seen}
        asking.cancel()
        dropped = (await _metrics(http, service.url))["turnout_records_dropped_total"]
    removed = before - await asyncio.to_thread(_rows_before, database, old - 1)
    return {
        "steady": steady,
        "removing": removing,
        "removed_rows": removed,
        "removed_s": round(took_s, 1),
        "removed_rows_per_s": round(removed / took_s),
        "failed": steady["failed"] + removing["failed"],
        "dropped": dropped,
    }


async def _look(http: httpx.AsyncClient, url: str, going_on: Callable[[], bool]) -> dict[str, float]:
    """Look at the gateway for as long as something goes on; return the worst that its metrics said."""
    worst = dict.fromkeys(_WORST, 0.0)
    began = time.monotonic()
    while await asyncio.to_thread(going_on):
        if time.monotonic() - began > PATIENCE_S:
            raise TimeoutError("the rows are not removed")
        said = await _metrics(http, url)
        worst = {name: max(value, said[_WORST[name]]) for name, value in worst.items()}
        await asyncio.sleep(_LOOK_S)
    return worst


def _rows_before(database: Database, at: float) -> int:
    with database.read() as connection:
        query = text("SELECT count(*) FROM requests WHERE id < :first")
        return int(connection.execute(query, {"first": f"req-{int(at):08x}"}).scalar_one())


def _oldest(database: Database) -> float:
    with database.read() as connection:
        query = text("SELECT at FROM requests ORDER BY id LIMIT 1")
        return float(connection.execute(query).scalar_one())


async def _metrics(http: httpx.AsyncClient, url: str) -> dict[str, float]:
    """Return the metrics without labels."""
    lines = (await http.get(f"{url}/metrics")).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line.startswith("turnout_") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def _sheet(figures: dict[str, Any]) -> Sheet:
    rows = []
    for kind, found in figures["stores"].items():
        for phase in ("steady", "removing"):
            taken = found[phase]
            more = (
                (
                    f"{found['removed_rows']:,}",
                    f"{found['removed_s']:.0f}",
                    f"{found['removed_rows_per_s']:,}",
                )
                if phase == "removing"
                else ("", "", "")
            )
            numbers = [f"{taken[name]:g}" for name in ("requests", "failed", "p50_ms", "p99_ms", "max_ms")]
            rows.append([kind, phase, *numbers, *more])
    return Sheet(
        f"{figures['rows']:,} recorded requests, the oldest removed under traffic",
        ("store", "", "requests", "failed", "p50 ms", "p99 ms", "max ms", "removed", "s", "rows/s"),
        rows,
        notes=[
            f"{kind}: {found['size_mb']:,} MB; while rows were removed {found['removing']['waiting_rows']:g} "
            f"waited to be recorded at most ({found['steady']['waiting_rows']:g} before), the event loop was "
            f"{found['removing']['loop_lag_s']:.3f} s late ({found['steady']['loop_lag_s']:.3f}); "
            f"dropped {found['dropped']:g}"
            for kind, found in figures["stores"].items()
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
