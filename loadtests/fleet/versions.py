"""`make bench-versions`: does a registry with 10,000 versions cost more than one with ten?

Each round starts a gateway worker and a controller on a store with few versions and on one with many, in
turn, and times them to the first moment at which they serve and lead. The rest is timed in this process:
reading the routing table, reading it again after a change elsewhere, resolving a name, listing a page.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from sqlalchemy import insert

from gateway.core.documents import Arm
from gateway.core.refs import VersionRef
from gateway.core.requests import Principal, Role
from gateway.core.routes import Capture, RouteSpec, RouteStatus
from gateway.routing.resolve import resolve
from gateway.routing.table import build
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER
from gateway.store.schema import names, routes, versions
from loadtests.common.machine import busy_share
from loadtests.common.processes import StartFailed, end_in_order, free_port, started
from loadtests.common.report import Sheet, console_for_people, number, publish

BENCH = "bench-versions"
FULL = {"few": 10, "many": 10_000, "names": 100, "rounds": 5}
ALLOWED_START_S = 3.0
ALLOWED_RESOLVE_RATIO = 1.25
PATIENCE_S = 120.0
MODEL = "canned"
_MANIFEST_PROBES = 6
_LEAST = ("start_s", "start_cpu_s", "_us")
_PRINCIPAL = Principal("bench", "default", frozenset({Role.INFERENCE}))
_POLL_S = 0.01
_BURST = 2000


@dataclass(frozen=True)
class House:
    """A state folder with so many versions."""

    folder: Path
    count: int
    first: VersionRef

    @property
    def environment(self) -> dict[str, str]:
        """What leads a process to it. The engine's address is one where nobody answers."""
        return {
            "TURNOUT_STATE_DIR": str(self.folder),
            "TURNOUT_BASE__MODEL": MODEL,
            "TURNOUT_ENGINE__URLS": '["http://127.0.0.1:9"]',
        }

    @contextmanager
    def store(self) -> Iterator[ControlStore]:
        """Open its control store."""
        database = Database(f"sqlite:///{self.folder / 'control.db'}", "control")
        try:
            yield ControlStore(database)
        finally:
            database.close()


def prepare(folder: Path, *, count: int, name_count: int) -> House:
    """Make a store with `count` versions spread over at most `name_count` names, each with a route."""
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'control.db'}", "control", durable=False)
    spread = min(name_count, count)
    refs = [VersionRef(f"adapter-{n % spread:05}", n // spread + 1) for n in range(count)]
    last = {ref.name: ref for ref in refs}
    try:
        database.migrate()
        with database.write() as connection:
            connection.execute(
                insert(names), [{"name": name, "last_version": ref.version} for name, ref in last.items()]
            )
            connection.execute(insert(versions), [_version(ref, n) for n, ref in enumerate(refs)])
            connection.execute(insert(routes), [_route(ref) for ref in last.values()])
    finally:
        database.close()
    return House(folder, count, refs[0])


def _version(ref: VersionRef, number_of: int) -> dict[str, Any]:
    """Return a row as the registry writes it, with a reference of the usual size."""
    digest = f"sha256:{number_of:064x}"
    probe = {"prompt": "x" * 60, "top_logprobs": {str(token): -token / 7 for token in range(20)}}
    manifest = {
        "name": ref.name,
        "version": ref.version,
        "digest": digest,
        "base": {"name": MODEL, "digest": None},
        "rank": 8,
        "alpha": 16.0,
        "target_modules": ["q_proj", "v_proj"],
        "dtype": "bfloat16",
        "size_bytes": 4_939_072,
        "source": "benchmark",
        "created_at": 1.0,
        "reference": {"quantization": "nf4", "probes": [probe] * _MANIFEST_PROBES},
    }
    return {
        "name": ref.name,
        "version": ref.version,
        "digest": digest,
        "manifest": manifest,
        "created_at": 1.0 + number_of,
        "retired_at": None,
    }


def _route(ref: VersionRef) -> dict[str, Any]:
    arms = (Arm(adapter=str(ref), share=1.0),)
    return {
        "name": ref.name,
        "spec": RouteSpec(arms=arms).model_dump(mode="json"),
        "generation": 1,
        "status": RouteStatus(state="active", active_generation=1, effective_arms=arms).model_dump(
            mode="json"
        ),
        "updated_at": 1.0,
    }


@dataclass(frozen=True)
class Start:
    """What a start took. CPU seconds tell it from what other programs took of the machine."""

    seconds: float
    cpu_s: float


def gateway_start(house: House) -> Start:
    """Start a gateway worker and return what it took until it is ready."""
    port = free_port()
    environment = {**house.environment, "TURNOUT_SERVER__PORT": str(port)}
    command = [sys.executable, "-m", "gateway", "worker"]
    with httpx.Client(trust_env=False) as http:

        def ready() -> bool:
            try:
                return http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        return _timed_start(command, house, environment, ready)


def controller_start(house: House) -> Start:
    """Start a controller and return what it took until it has tended its one (dead) engine."""
    with house.store() as store:
        before = store.fleet.controller()
        epoch = before[1] if before else 0

        def tended() -> bool:
            lease = store.fleet.controller()
            rows = store.fleet.replicas()
            return (
                lease is not None
                and lease[1] > epoch
                and bool(rows)
                and rows[0].reason not in {None, "not seen yet"}
            )

        store.fleet.set_replicas({})
        start = _timed_start(
            [sys.executable, "-m", "gateway", "controller"], house, house.environment, tended
        )
        store.fleet.release(CONTROLLER, (store.fleet.controller() or ("",))[0])
    return start


def _timed_start(
    command: list[str], house: House, environment: dict[str, str], done: Callable[[], bool]
) -> Start:
    log = house.folder / "start.log"
    began = time.perf_counter()
    with started(command, log=log, core=None, environment=environment, folder=house.folder) as process:
        while not done():
            if not process.running or time.perf_counter() - began > PATIENCE_S:
                raise StartFailed(f"{' '.join(command[1:])} did not come up:\n{process.tail()}")
            time.sleep(_POLL_S)
        return Start(time.perf_counter() - began, process.cpu_s())


def in_process(house: House) -> dict[str, float]:
    """Return the CPU time that each takes here, by name: milliseconds, for resolving microseconds."""
    with house.store() as store:

        def table() -> Any:
            return build(store.snapshot(), base_model=MODEL, default_capture=Capture())

        first_ms, made = _ms(table)
        again = [_ms(table)[0] for _ in range(5)]
        pinned, route = str(house.first), house.first.name
        return {
            "table_first_ms": first_ms,
            "table_again_ms": statistics.median(again),
            "resolve_route_us": _resolve_us(made, route),
            "resolve_pinned_us": _resolve_us(made, pinned),
            "first_page_ms": statistics.median(
                _ms(lambda: store.versions.rows(limit=10))[0] for _ in range(5)
            ),
            "last_page_ms": statistics.median(_ms(lambda: _last_page(store))[0] for _ in range(5)),
        }


def _last_page(store: ControlStore) -> Any:
    return store.versions.rows(limit=10, after=VersionRef("adapter-00000", 2))


def _ms(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return (time.process_time() - began) * 1000, result


def _resolve_us(table: Any, requested: str) -> float:
    def burst() -> float:
        began = time.process_time()
        for _ in range(_BURST):
            resolve(table, requested, principal=_PRINCIPAL, request_id="r", subject="s")
        return (time.process_time() - began) / _BURST * 1e6

    return min(burst() for _ in range(20))


def measure(options: argparse.Namespace, folder: Path, console: Console) -> dict[str, dict[str, list[float]]]:
    """Return every figure's values, by name and by the number of versions."""
    houses = {
        str(count): prepare(folder / f"with-{count}", count=count, name_count=options.names)
        for count in (options.few, options.many)
    }
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(options.rounds):
        for label, house in houses.items():
            gateway, controller = gateway_start(house), controller_start(house)
            values = {
                "gateway_start_s": gateway.seconds,
                "gateway_start_cpu_s": gateway.cpu_s,
                "controller_start_s": controller.seconds,
                "controller_start_cpu_s": controller.cpu_s,
                **in_process(house),
            }
            for name, value in values.items():
                found.setdefault(name, {}).setdefault(label, []).append(value)
            console.print(
                f"round {turn + 1}, {label} versions: gateway {values['gateway_start_s']:.2f} s, "
                f"controller {values['controller_start_s']:.2f} s, table {values['table_first_ms']:.1f} ms"
            )
    return found


def figures_of(found: dict[str, dict[str, list[float]]], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by number of versions, and what many add.

    Starts and resolving are the shortest of the rounds: what another took more, other programs took. The rest
    are medians.
    """
    few, many = str(settings["few"]), str(settings["many"])
    middle = {
        name: {
            label: round((min if name.endswith(_LEAST) else statistics.median)(values), 4)
            for label, values in by.items()
        }
        for name, by in found.items()
    }
    resolve_ratio = max(
        middle[name][many] / middle[name][few] for name in ("resolve_route_us", "resolve_pinned_us")
    )
    return {
        "added_start_s": {
            part: round(middle[f"{part}_start_s"][many] - middle[f"{part}_start_s"][few], 3)
            for part in ("gateway", "controller")
        },
        "resolve_ratio": round(resolve_ratio, 3),
        **middle,
        "more": {"settings": settings},
    }


def met(figures: dict[str, Any]) -> bool:
    """Whether starts take under 3 s more, and resolving takes what it took."""
    late = max(figures["added_start_s"].values())
    return bool(late < ALLOWED_START_S and figures["resolve_ratio"] <= ALLOWED_RESOLVE_RATIO)


def sheet_of(figures: dict[str, Any], settings: dict[str, Any]) -> Sheet:
    """Return the table: one row a figure."""
    few, many = str(settings["few"]), str(settings["many"])
    rows = [
        [name.replace("_", " "), number(by[few], 2), number(by[many], 2), number(by[many] / by[few], 2)]
        for name, by in figures.items()
        if isinstance(by, dict) and few in by
    ]
    added = figures["added_start_s"]
    note = (
        f"With {many} versions over {settings['names']} names the gateway starts {added['gateway']:+.2f} s "
        "and the "
        f"controller {added['controller']:+.2f} s later; resolving takes {figures['resolve_ratio']:.2f} "
        "times as long."
    )
    return Sheet("Many versions", ["", f"{few} versions", f"{many} versions", "ratio"], rows, [note])


def main() -> int:
    """Run the benchmark; return 0 when many versions cost what they may."""
    options = _options()
    end_in_order()
    console = console_for_people()
    settings = {name: getattr(options, name) for name in FULL}
    busy = round(busy_share(), 2)
    try:
        with tempfile.TemporaryDirectory(prefix="turnout-bench-") as folder:
            found = measure(options, Path(folder), console)
    except StartFailed as error:
        console.print(f"[red]failed:[/red] {error}")
        return 1
    figures = figures_of(found, settings)
    figures["more"]["busy_before"] = busy
    publish(
        BENCH,
        figures,
        sheet_of(figures, settings),
        console=console,
        history=options.history,
        partial=settings != FULL,
    )
    return 0 if met(figures) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-versions", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--few", type=int, default=FULL["few"])
    parser.add_argument("--many", type=int, default=FULL["many"])
    parser.add_argument(
        "--names", type=int, default=FULL["names"], help="over how many names, each with a route"
    )
    parser.add_argument("--rounds", type=int, default=FULL["rounds"])
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
