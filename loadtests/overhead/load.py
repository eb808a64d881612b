"""Loads on one running system, each with the CPU time that the system spent under it."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loadtests.common.machine import ROOT, CoreWatch, pin
from loadtests.common.processes import clean_environment
from loadtests.overhead.bodies import bodies
from loadtests.overhead.systems import Running

CONNECTIONS = 32
PACED_CONNECTIONS = 128
GRACE_S = 60.0
_LUA = Path(__file__).resolve().parent / "wrk.lua"
_EVENTS_BESIDE_TOKENS = 2
"""A stream's first event, which names the role, and its [DONE]."""


class LoadFailed(Exception):
    """A load did not come to its end, or answers were refused or broken; the message says which."""


@dataclass(frozen=True)
class Generator:
    """Where loads run: core, wrk (None where no load needs it), and a folder for bodies."""

    wrk: Path | None
    core: int | None
    watched_core: int | None
    folder: Path

    def body_file(self, size_bytes: int) -> Path:
        """Return a file of bodies of that size, one after another."""
        file = self.folder / f"bodies-{size_bytes}"
        if not file.exists():
            file.write_bytes(b"".join(bodies(size_bytes)))
        return file


def saturate(generator: Generator, running: Running, *, size_bytes: int, seconds: float) -> dict[str, Any]:
    """Send as much as it takes over `CONNECTIONS` connections."""
    return _by_wrk(generator, running, size_bytes=size_bytes, seconds=seconds, connections=CONNECTIONS)


def one_by_one(generator: Generator, running: Running, *, size_bytes: int, seconds: float) -> dict[str, Any]:
    """Send one request after another over one connection."""
    return _by_wrk(generator, running, size_bytes=size_bytes, seconds=seconds, connections=1)


def at_rate(
    generator: Generator, running: Running, *, size_bytes: int, seconds: float, rate: float
) -> dict[str, Any]:
    """Send `rate` requests a second, whether or not answers come."""
    options = ["--rate", str(rate), "--seconds", str(seconds), "--connections", str(PACED_CONNECTIONS)]
    source = ["--bodies", str(generator.body_file(size_bytes)), "--body-bytes", str(size_bytes)]
    spent = _Spent(generator, running)
    seen = _client(
        generator, running, "loadtests.overhead.paced", [*options, *source], limit_s=seconds + GRACE_S
    )
    if seen["failed"]:
        raise LoadFailed(
            f"{seen['failed']} of {seen['failed'] + seen['finished']} requests failed at {rate:.0f}/s"
        )
    return {**seen, **spent.over(seen["finished"], "cpu_us_per_request")}


def listen(
    generator: Generator,
    running: Running,
    *,
    streams: int,
    tokens: int,
    repeat: int,
    seconds: float,
    ramp_s: float = 0.5,
) -> dict[str, Any]:
    """Read `streams` streams at once, `repeat` times; `seconds` is how long that should take."""
    limit_s = seconds * 2 + GRACE_S
    shape = ["--streams", str(streams), "--tokens", str(tokens), "--repeat", str(repeat)]
    options = [*shape, "--ramp-s", str(ramp_s), "--limit-s", str(limit_s)]
    spent = _Spent(generator, running)
    seen = _client(generator, running, "loadtests.overhead.listeners", options, limit_s=limit_s + GRACE_S)
    events = seen["tokens"] + _EVENTS_BESIDE_TOKENS * seen["streams"]
    return {**seen, **spent.over(events, "cpu_us_per_chunk")}


def _by_wrk(
    generator: Generator, running: Running, *, size_bytes: int, seconds: float, connections: int
) -> dict[str, Any]:
    headers = {**running.headers, "content-type": "application/json"}
    command = [
        str(generator.wrk),
        *("-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s"),
        *(part for name, value in headers.items() for part in ("-H", f"{name}: {value}")),
        *("-s", str(_LUA), running.url, "--", str(generator.body_file(size_bytes)), str(size_bytes)),
    ]
    spent = _Spent(generator, running)
    output = _run(command, core=generator.core, limit_s=seconds + GRACE_S)
    line = next((line for line in output.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailed(f"wrk printed no result: {output[-300:]}")
    seen = json.loads(line.removeprefix("RESULT "))
    if seen["refused"] or seen["broken"] or not seen["finished"]:
        raise LoadFailed(
            f"{seen['finished']} requests finished, {seen['refused']} were refused, {seen['broken']} broke"
        )
    rate = seen["finished"] / seen["seconds"]
    return {**seen, "throughput_rps": rate, **spent.over(seen["finished"], "cpu_us_per_request")}


class _Spent:
    """The CPU time of a system since this was made, and what others took of its core meanwhile."""

    def __init__(self, generator: Generator, running: Running) -> None:
        self._process = running.process
        self._watch = CoreWatch(generator.watched_core)
        self._before_s = self._process.cpu_s() if self._process else 0.0
        self._began = time.monotonic()

    def over(self, count: int, name: str) -> dict[str, float | None]:
        """Return microseconds for each of `count`, under `name`, and the others' share of the core."""
        wall_s = time.monotonic() - self._began
        if self._process is None:
            return {name: None, "others_on_core": None}
        used_s = self._process.cpu_s() - self._before_s
        others = max(0.0, self._watch.busy_s() - used_s) / wall_s
        return {name: used_s * 1e6 / max(1, count), "others_on_core": round(others, 3)}


def _client(
    generator: Generator, running: Running, module: str, options: list[str], *, limit_s: float
) -> dict[str, Any]:
    core = [] if generator.core is None else ["--core", str(generator.core)]
    headers = [part for name, value in running.headers.items() for part in ("--header", f"{name}: {value}")]
    command = [sys.executable, "-m", module, "--url", running.url, *core, *headers, *options]
    output = _run(command, core=generator.core, limit_s=limit_s)
    return dict(json.loads(output.splitlines()[-1]))


def _run(command: list[str], *, core: int | None, limit_s: float) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
            cwd=ROOT,
            env=clean_environment(),
            preexec_fn=lambda: pin(core),
        )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{command[0]} did not end within {limit_s:g} s") from error
    if done.returncode:
        raise LoadFailed(f"{' '.join(command[:3])} ended with {done.returncode}: {done.stderr[-500:]}")
    return done.stdout
