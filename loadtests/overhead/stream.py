"""`make bench-stream`: many long streams at once through Turnout: is one lost, late, or kept in memory?

The same streams run directly first, since the load shares the machine with what it measures. An event
carries the moment at which the engine wrote it, so an *added* gap is how much further apart two events
arrived than they were written.
"""

import argparse
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.common.machine import busy_share, cores
from loadtests.common.processes import Process, StartFailed, canned_engine, end_in_order
from loadtests.common.report import Sheet, console_for_people, number, publish
from loadtests.overhead import load
from loadtests.overhead.gateway_worker import CheckFailed
from loadtests.overhead.load import Generator, LoadFailed
from loadtests.overhead.systems import Setting, all_systems

BENCH = "bench-stream"
SYSTEMS = ("direct", "turnout")
FULL = {"streams": 500, "seconds": 60.0, "gap_ms": 20.0}
RAMP_S = 2.0
MAX_GAP_MS = 100.0
BUSY_SHARE = 0.15
_SAMPLE_S = 0.5
_SETTLING_SHARE = 0.2
"""The share of the run after which memory counts as settled: every stream runs and has its buffers."""


class MemoryWatch(threading.Thread):
    """Samples the resident memory of a process until stopped."""

    def __init__(self, process: Process | None) -> None:
        super().__init__(daemon=True)
        self.samples_mb: list[float] = []
        self._process = process
        self._stopped = threading.Event()

    def run(self) -> None:
        """Take samples."""
        while self._process is not None and not self._stopped.wait(_SAMPLE_S):
            self.samples_mb.append(self._process.rss_mb())

    def stop(self) -> None:
        """End, after the sample under way."""
        self._stopped.set()
        self.join()


def growth_mb(samples_mb: list[float]) -> float | None:
    """Return how much memory grew from when it had settled to its highest point; None without samples."""
    settled = samples_mb[int(len(samples_mb) * _SETTLING_SHARE) :]
    return max(settled) - settled[0] if settled else None


def figures_of(measured: dict[str, dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """Return the figures by name. `max_added_gap_ms` is an upper bound: the load's own lateness is in it."""
    turnout = measured["turnout"]
    return {
        "streams": turnout["streams"],
        "lost_streams": turnout["lost_streams"],
        "max_added_gap_ms": turnout["added_gap_us"]["max"] / 1000,
        "rss_growth_mb": _rounded(turnout["rss_growth_mb"]),
        "more": {
            "direct_max_added_gap_ms": measured["direct"]["added_gap_us"]["max"] / 1000,
            "added_gap_us": {name: seen["added_gap_us"] for name, seen in measured.items()},
            "delay_us": {name: seen["delay_us"] for name, seen in measured.items()},
            "tokens": {name: seen["tokens"] for name, seen in measured.items()},
            "coalesced_reads": {name: seen["coalesced_reads"] for name, seen in measured.items()},
            "cpu_us_per_chunk": _rounded(turnout["cpu_us_per_chunk"]),
            "rss_mb": _rounded(turnout["rss_mb"]),
            "others_on_core": turnout["others_on_core"],
            "settings": settings,
        },
    }


def main() -> int:
    """Run the benchmark; return 0 only when no stream was lost and every request has its row."""
    options = _options()
    end_in_order()
    console = console_for_people()
    busy = busy_share()
    if busy > BUSY_SHARE:
        console.print(f"other programs use {busy:.0%} of this machine now; the gaps will show it")
    settings = {name: getattr(options, name) for name in FULL}
    measured: dict[str, dict[str, Any]] = {}
    for name in SYSTEMS:
        console.print(
            f"{name}: {options.streams} streams, a token every {options.gap_ms:g} ms, {options.seconds:g} s"
        )
        try:
            measured[name] = _measure(name, options, console)
        except (CheckFailed, LoadFailed, StartFailed) as error:
            console.print(f"  [red]failed:[/red] {error}")
            return 1
    figures = figures_of(measured, {**settings, "busy_before": round(busy, 2)})
    publish(
        BENCH,
        figures,
        sheet_of(figures),
        console=console,
        history=options.history,
        partial=settings != FULL,
    )
    return 1 if figures["lost_streams"] else 0


def sheet_of(figures: dict[str, Any]) -> Sheet:
    """Return the table: one row a figure, with the direct run's where there is one."""
    more = figures["more"]
    rows = [
        ["streams", number(figures["streams"]), number(figures["streams"])],
        ["lost", number(figures["lost_streams"]), ""],
        [
            "largest added gap, ms",
            number(figures["max_added_gap_ms"], 1),
            number(more["direct_max_added_gap_ms"], 1),
        ],
    ]
    for name in ("p50", "p99", "p999"):
        both = [number(more["added_gap_us"][system][name] / 1000, 1) for system in ("turnout", "direct")]
        rows.append([f"added gap {name}, ms", *both])
    rows += [
        ["memory growth, MB", number(figures["rss_growth_mb"], 1), ""],
        ["memory, MB", number(more["rss_mb"], 0), ""],
        ["CPU µs/chunk", number(more["cpu_us_per_chunk"], 1), ""],
    ]
    kept = figures["max_added_gap_ms"] <= MAX_GAP_MS
    note = (
        f"No gap of more than {MAX_GAP_MS:g} ms was added."
        if kept
        else (f"A gap of more than {MAX_GAP_MS:g} ms was added; compare the direct run's.")
    )
    return Sheet("Many streams at once", ["", "turnout", "direct"], rows, [note])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-stream", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--streams", type=int, default=FULL["streams"])
    parser.add_argument("--seconds", type=float, default=FULL["seconds"])
    parser.add_argument("--gap-ms", type=float, default=FULL["gap_ms"], help="between two tokens of a stream")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    return parser.parse_args()


def _measure(name: str, options: argparse.Namespace, console: Console) -> dict[str, Any]:
    system = next(system for system in all_systems() if system.name == name)
    load_core, system_core = cores()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnout-bench-")))
        _, engine = stack.enter_context(
            canned_engine(folder / "engine.log", core=load_core, gap_ms=options.gap_ms)
        )
        running = stack.enter_context(system.run(Setting(engine, system_core, folder)))
        generator = Generator(None, load_core, system_core, folder)
        watch = MemoryWatch(running.process)
        watch.start()
        try:
            seen = load.listen(
                generator,
                running,
                streams=options.streams,
                tokens=max(1, round(options.seconds * 1000 / options.gap_ms)),
                repeat=1,
                seconds=options.seconds,
                ramp_s=RAMP_S,
            )
        finally:
            watch.stop()
        running.check()
    console.print(
        f"  {seen['tokens']:,} tokens, largest added gap {seen['added_gap_us']['max'] / 1000:.1f} ms, "
        f"{seen['lost_streams']} lost"
    )
    rss_mb = watch.samples_mb[-1] if watch.samples_mb else None
    return {**seen, "rss_growth_mb": growth_mb(watch.samples_mb), "rss_mb": rss_mb}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


if __name__ == "__main__":
    raise SystemExit(main())
