"""`make chaos`: processes killed and frozen, connections dropped, disk and store taken away, under traffic.

Faults come one at a time, in an order drawn by a seed. For each kind: how often, how many requests met it,
how many of those ended with an error, and how long until everything was as before: every replica holds every
version, every worker is up to date, every route answers. Writes go on all the while (ratings, route changes,
adapters), and at the end every acknowledged one must be in the store.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from loadtests.chaos.faults import FAULTS, Fault, Wrong
from loadtests.chaos.house import HOT, House, fake_house, real_house
from loadtests.common.machine import commit
from loadtests.common.plain_client import Answer, Broken, PlainClient
from loadtests.common.processes import StartFailed, end_in_order
from loadtests.common.report import Sheet, console_for_people, keep_piece, kept_piece, number, publish

BENCH = "chaos"
SEED = 20
CLIENTS = {"fake": 8, "real": 3}
ROUNDS = {"fake": 3, "real": 2}
TOKENS = {"fake": 8, "real": 4}
RECOVERY_LIMIT_S = {"fake": 60.0, "real": 240.0}
QUIET_S = 2.0
PAUSE_S = 0.02
WRITE_EVERY_S = 0.2
CLIENT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it was under way, and the error that its client saw, if any.

    `explained` is an error of ours, with a code; what is not explained is a connection that broke.
    """

    start: float
    end: float
    error: str | None = None
    explained: bool = True


@dataclass
class Record:
    """What one injection did. Times are monotonic seconds; `recovered_at` is None when it never did."""

    kind: str
    began: float
    recovered_at: float | None = None
    wrong: str | None = None
    lacking: str | None = None


@dataclass
class Traffic:
    """Clients that ask the hot adapters, and a writer. No two requests are alike: see `query_of_death`."""

    house: House
    tokens: int
    seen: list[Seen] = field(default_factory=list)
    stopped: bool = False
    _count: int = 0
    _rateable: str | None = None

    async def client(self, number: int) -> None:
        """Ask until stopped."""
        connection = PlainClient(self.house.service.url)
        draw = random.Random(number)
        while not self.stopped:
            self._count += 1
            body = {
                "model": draw.choice(HOT),
                "prompt": f"Request {self._count} of client {number}",
                "max_tokens": self.tokens,
                "stream": self._count % 2 == 0,
            }
            start = time.monotonic()
            try:
                answer = await connection.call("POST", "/v1/completions", body, timeout_s=CLIENT_TIMEOUT_S)
                error = _error_of(answer)
                self.seen.append(Seen(start, time.monotonic(), error))
                self._rateable = answer.headers.get("x-request-id") if error is None else self._rateable
            except (Broken, ValueError) as error:
                self.seen.append(Seen(start, time.monotonic(), str(error), explained=False))
            await asyncio.sleep(PAUSE_S)
            if self._count % 20 == 0:
                connection.close()
        connection.close()

    async def writer(self) -> None:
        """Rate answers and change a route until stopped; note what was acknowledged."""
        count = 0
        while not self.stopped:
            count += 1
            if self._rateable is not None:
                request_id = self._rateable
                body = {"request_id": request_id, "metric": "chaos", "value": count}
                status, _ = await self.house.call("POST", "/v1/feedback", body)
                if status == 200:
                    self.house.acknowledged.append(("feedback", (request_id, count)))
            if count % 5 == 0:
                await self.house.turn_scratch(count)
            await asyncio.sleep(WRITE_EVERY_S)

    async def orchestrator(self) -> None:
        """Start again what ended, as something outside would, until stopped."""
        while not self.stopped:
            self.house.look_after()
            await asyncio.sleep(0.1)


def _error_of(answer: Answer) -> str | None:
    """Return the error that a client sees, by status and code, or None.

    Raises:
        ValueError: the answer is not whole, and nothing says why.
    """
    if answer.status != 200:
        return f"{answer.status} {answer.json()['error']['code']}"
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.json()
        return None
    last = answer.events()[-1]
    if last == "[DONE]":
        return None
    if "error" in last:
        return f"in the stream: {last['error'].get('code') or last['error'].get('type')}"
    raise ValueError("a stream ended without its end and without an error")


def main() -> int:
    """Inject every fault; return 0 only when the service recovered from each and lost nothing."""
    options = _options()
    end_in_order()
    console = console_for_people()
    short = bool(options.quick or options.only)
    figures: dict[str, Any] = {}
    for engine in ("fake", "real") if options.engine == "both" else (options.engine,):
        wanted = {kind: fault for kind, fault in FAULTS.items() if not options.only or kind in options.only}
        rounds = 1 if options.quick else ROUNDS[engine]
        console.print(
            f"{engine} engine: {len(wanted)} kinds of faults, {rounds} of each, seed {options.seed}"
        )
        try:
            figures[engine] = _chaos(engine, wanted, rounds, options.seed, console)
        except (StartFailed, httpx.HTTPError) as error:
            console.print(f"  [red]failed:[/red] {error}")
            return 1
        if not short:
            keep_piece(BENCH, engine, figures[engine])
    clean_now = all(clean(found) for found in figures.values())
    if not short:  # a run of one engine goes on from the last one of the other
        figures = {name: figures.get(name) or found for name in ROUNDS if (found := kept_piece(BENCH, name))}
    whole = (
        figures["fake"] | ({"real": figures["real"]} if "real" in figures else {})
        if "fake" in figures
        else figures["real"]
    )
    full = not short and len(figures) == len(ROUNDS)
    publish(BENCH, whole, sheet_of(figures), console=console, history=options.history, partial=not full)
    return 0 if clean_now else 1


def clean(figures: Mapping[str, Any]) -> bool:
    """Whether the service recovered from every fault, did nothing wrong and lost nothing."""
    every = figures["faults"].values()
    recovered = all(fault["recovered"] == fault["injected"] for fault in every)
    return recovered and not figures["acknowledged_lost"] and not figures["more"]["wrong"]


def sheet_of(figures: Mapping[str, Mapping[str, Any]]) -> Sheet:
    """Return the table: a row for each kind of fault on each engine."""
    rows, notes = [], []
    for engine, found in figures.items():
        for kind, fault in found["faults"].items():
            rows.append(
                [
                    f"{kind} ({engine})",
                    *(number(fault[name]) for name in ("injected", "recovered", "requests", "client_errors")),
                    number(fault["recovery_s_max"], 1),
                    ", ".join(f"{count} x {text}" for text, count in fault["errors"].items()) or "-",
                ]
            )
        more = found["more"]
        notes.append(
            f"{engine}, commit {more['commit']}: {more['acknowledged']} acknowledged writes, "
            f"{found['acknowledged_lost']} lost; "
            f"{more['errors_between']} errors of {more['requests']} requests outside faults"
        )
        notes += [f"{engine}: {text}" for text in (*more["wrong"], *more["left_out"])]
    columns = ["fault", "injected", "recovered", "requests", "client errors", "longest s", "what clients saw"]
    return Sheet("Chaos", columns, rows, notes)


def figures_of(
    records: list[Record], seen: list[Seen], *, lost: int, acknowledged: int, left_out: list[str]
) -> dict[str, Any]:
    """Return the figures by name. A request belongs to a fault when it was under way before its recovery."""
    faults: dict[str, dict[str, Any]] = {}
    met: set[int] = set()
    for record in records:
        fault = faults.setdefault(
            record.kind,
            {"injected": 0, "recovered": 0, "requests": 0, "client_errors": 0, "recovery_s_max": 0.0}
            | {"unexplained": 0, "errors": Counter()},
        )
        end = record.recovered_at if record.recovered_at is not None else float("inf")
        mine = [i for i, each in enumerate(seen) if each.start <= end and each.end >= record.began]
        met.update(mine)
        errors = [seen[i] for i in mine if seen[i].error]
        fault["injected"] += 1
        fault["recovered"] += record.recovered_at is not None
        fault["requests"] += len(mine)
        fault["client_errors"] += len(errors)
        fault["unexplained"] += sum(not each.explained for each in errors)
        fault["errors"].update(str(each.error)[:80] for each in errors)
        if record.recovered_at is not None:
            took_s = round(record.recovered_at - record.began, 2)
            fault["recovery_s_max"] = max(fault["recovery_s_max"], took_s)
    between = [each for i, each in enumerate(seen) if i not in met and each.error]
    return {
        "faults": {
            kind: {**fault, "errors": dict(fault["errors"])} for kind, fault in sorted(faults.items())
        },
        "acknowledged_lost": lost,
        "more": {
            "requests": len(seen),
            "acknowledged": acknowledged,
            "errors_between": len(between),
            "between": dict(Counter(str(each.error)[:80] for each in between)),
            "wrong": [f"{record.kind}: {text}" for record in records for text in _faults_of(record)],
            "left_out": left_out,
        },
    }


def _faults_of(record: Record) -> list[str]:
    never = f"not recovered: {record.lacking}" if record.recovered_at is None else None
    return [text for text in (record.wrong, never) if text]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--engine", choices=["both", "fake", "real"], default="both")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the order of the faults")
    parser.add_argument("--only", nargs="+", choices=sorted(FAULTS), help="some kinds of faults")
    parser.add_argument("--quick", action="store_true", help="each fault once, not kept as history")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    return parser.parse_args()


def _chaos(engine: str, faults: dict[str, Fault], rounds: int, seed: int, console: Console) -> dict[str, Any]:
    make_house = fake_house if engine == "fake" else real_house
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, make_house(Path(scratch)) as house:
        left_out = []
        if "registry_full" in faults and house.small_disk is None:
            faults = {kind: fault for kind, fault in faults.items() if kind != "registry_full"}
            left_out.append("registry_full was left out: this user may not mount a small disk")
        order = [kind for kind in faults for _ in range(rounds)]
        random.Random(seed).shuffle(order)
        records, traffic = asyncio.run(_run(engine, house, faults, order, console))
        figures = figures_of(
            records,
            traffic.seen,
            lost=len(house.lost()),
            acknowledged=len(house.acknowledged),
            left_out=left_out,
        )
        figures["more"] |= {
            "commit": commit(),
            "seed": seed,
            "quarantines": len(house.quarantined),
            "caught_in_writes": house.caught_in_writes,
        }
        return figures


async def _run(
    engine: str, house: House, faults: dict[str, Fault], order: list[str], console: Console
) -> tuple[list[Record], Traffic]:
    traffic = Traffic(house, TOKENS[engine])
    tasks = [asyncio.create_task(traffic.client(index)) for index in range(CLIENTS[engine])]
    tasks += [asyncio.create_task(traffic.writer()), asyncio.create_task(traffic.orchestrator())]
    records: list[Record] = []
    try:
        await asyncio.sleep(QUIET_S)
        for index, kind in enumerate(order):
            record = await _inject(house, kind, faults[kind], index, limit_s=RECOVERY_LIMIT_S[engine])
            records.append(record)
            await asyncio.sleep(QUIET_S)
            errors = sum(1 for each in traffic.seen if each.error and each.end >= record.began)
            state = "never" if record.recovered_at is None else f"{record.recovered_at - record.began:.1f} s"
            said = f" [red]{record.wrong or record.lacking}[/red]" if _faults_of(record) else ""
            console.print(f"  {index + 1} of {len(order)} {kind}: recovered {state}, {errors} errors{said}")
    finally:
        traffic.stopped = True
        await asyncio.gather(*tasks)
    return records, traffic


async def _inject(house: House, kind: str, fault: Fault, number: int, *, limit_s: float) -> Record:
    record = Record(kind, time.monotonic())
    try:
        await fault(house, number)
    except (Wrong, httpx.HTTPError, OSError) as error:
        record.wrong = f"{type(error).__name__}: {error}"
    while (lacking := await house.settled()) is not None:
        record.lacking = lacking
        if time.monotonic() - record.began > limit_s:
            return record
        await asyncio.sleep(0.1)
    record.recovered_at = time.monotonic()
    return record


if __name__ == "__main__":
    sys.exit(main())
