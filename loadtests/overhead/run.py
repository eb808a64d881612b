"""`make bench-overhead`: what Turnout costs in front of an engine, beside other proxies in the same run.

Every system in turn stands between a load on the first core and a canned engine on the same one; it has
the second core for itself. What counts is its CPU time for each request and for each streamed chunk, which
other load on the machine disturbs least. Several rounds; every figure is the median of them.
"""

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.common.installs import NotToBeHad, debian
from loadtests.common.machine import busy_share, cores
from loadtests.common.processes import StartFailed, canned_engine, end_in_order
from loadtests.common.report import console_for_people, publish
from loadtests.overhead import load
from loadtests.overhead.figures import disturbance, figures_of, sheet_of
from loadtests.overhead.gateway_worker import CheckFailed
from loadtests.overhead.load import Generator, LoadFailed
from loadtests.overhead.systems import Running, Setting, System, all_systems

BENCH = "bench-overhead"
SMALL_BYTES, LARGE_BYTES = 1024, 32 * 1024
GAP_MS = 20.0
TOKENS = 100
STREAMS = 200
BUSY_SHARE = 0.15
CROWDED_SHARE = 0.25
"""With more of its core taken by others, a system's caches are cold and its figures mean little."""

Measures = dict[str, dict[str, Any]]


def main() -> int:
    """Run the benchmark; return 0 only when every measured system answered everything, with its checks."""
    options = _options()
    end_in_order()
    console = console_for_people()
    try:
        wrk = debian("wrk", "wrk")
    except NotToBeHad as reason:
        console.print(str(reason))
        return 1
    if (busy := busy_share()) > BUSY_SHARE:
        console.print(f"other programs use {busy:.0%} of this machine now; latencies will show it")
    wanted = [system for system in all_systems() if system.name in options.systems]
    missing = _prepare(wanted, console)
    measured: dict[str, list[Measures]] = {system.name: [] for system in wanted}
    failed: dict[str, str] = {}
    for turn in range(options.rounds):
        for system in wanted:
            if system.name in missing or system.name in failed:
                continue
            console.print(f"round {turn + 1} of {options.rounds}: {system.name}")
            try:
                measured[system.name].append(_measure(system, wrk, options.seconds, console))
            except (CheckFailed, LoadFailed, StartFailed) as error:
                failed[system.name] = str(error)
                console.print(f"  [red]failed:[/red] {error}")
    settings = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "busy_before": round(busy, 2),
        "pinned": cores()[1] is not None,
    }
    figures = figures_of(measured, missing=missing, failed=failed, settings=settings)
    names = [system.name for system in wanted]
    crowded = disturbance(figures) > CROWDED_SHARE
    if crowded:
        console.print("too much else ran on the measured core: this run stays out of the history")
    publish(
        BENCH,
        figures,
        sheet_of(figures, names),
        console=console,
        history=options.history,
        partial=options.quick or crowded or bool(failed) or len(wanted) < len(all_systems()),
    )
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    names = [system.name for system in all_systems()]
    parser = argparse.ArgumentParser(prog="make bench-overhead", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load")
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="one round of short loads, not kept as history")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, 2.0
    return options


def _prepare(systems: list[System], console: Console) -> dict[str, str]:
    """Install what is missing; return why a system can't be measured, by name."""
    missing = {}
    for system in systems:
        try:
            system.prepare()
        except NotToBeHad as reason:
            missing[system.name] = str(reason)
            console.print(f"[yellow]{system.name} is missing:[/yellow] {reason}")
    return missing


def _measure(system: System, wrk: Path, seconds: float, console: Console) -> Measures:
    """Start a system in front of an engine of its own and measure everything."""
    load_core, system_core = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-bench-")))
        _, engine = stack.enter_context(canned_engine(folder / "engine.log", core=load_core, gap_ms=GAP_MS))
        running = stack.enter_context(system.run(Setting(engine, system_core, folder)))
        generator = Generator(wrk, load_core, system_core, folder)
        measures = _loads(generator, running, seconds, streams=system.streams or STREAMS)
        if running.process is not None:
            measures["memory"] = {"rss_mb": running.process.rss_mb()}
        running.check()
    small = measures["saturated"]
    console.print(
        f"  {small['throughput_rps']:,.0f} requests/s"
        + (f", {small['cpu_us_per_request']:.1f} µs each" if small["cpu_us_per_request"] else "")
        + (f", {value:.1f} µs a chunk" if (value := measures["streams"]["cpu_us_per_chunk"]) else "")
    )
    return measures


def _loads(generator: Generator, running: Running, seconds: float, *, streams: int) -> Measures:
    small, large = {"size_bytes": SMALL_BYTES}, {"size_bytes": LARGE_BYTES}
    load.saturate(generator, running, **small, seconds=1)  # warm
    made: Measures = {
        "one_connection": load.one_by_one(generator, running, **small, seconds=seconds),
        "saturated": load.saturate(generator, running, **small, seconds=seconds),
        "saturated_32kb": load.saturate(generator, running, **large, seconds=seconds),
    }
    for name, size in (("", small), ("_32kb", large)):
        rate = made[f"saturated{name}"]["throughput_rps"] / 2
        made[f"half_load{name}"] = load.at_rate(generator, running, **size, seconds=seconds, rate=rate)
    once_s = TOKENS * GAP_MS / 1000
    repeat = max(1, round(seconds / once_s))
    made["streams"] = load.listen(
        generator, running, streams=streams, tokens=TOKENS, repeat=repeat, seconds=repeat * once_s
    )
    if made["streams"]["lost_streams"]:
        raise LoadFailed(f"{made['streams']['lost_streams']} streams did not come whole")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
