"""The faults of `make chaos`. Each does its damage, and what an operator would do about it.

A fault returns when that is done; how long the service then takes to be as before is measured by the caller.
What a fault finds wrong beside errors that clients see, such as a change under a lost lease, it raises.
"""

import asyncio
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from loadtests.chaos.house import COLD, LEASE_S, House
from loadtests.chaos.sockets import shut_down

FREEZE_S = 6.0
STALL_S = 5.0
NOTICE_S = 1.5
"""Within which the controller takes a damaged version out of service."""

PATIENCE_S = 30.0
Fault = Callable[[House, int], Awaitable[None]]


class Wrong(Exception):
    """The service did something that it must never do."""


async def engine_kill(house: House, number: int) -> None:
    """`kill -9` an engine; it is started again after a second, empty."""
    before = house.engine_pids(number % 2)
    _signal(before, signal.SIGKILL)

    def replaced() -> bool:
        pids = house.engine_pids(number % 2)
        return bool(pids) and not set(pids) & set(before)

    await _until(replaced, "another engine process", timeout_s=120)


async def engine_freeze(house: House, number: int) -> None:
    """SIGSTOP an engine: it takes connections and says nothing."""
    pids = house.engine_pids(number % 2)
    _signal(pids, signal.SIGSTOP)
    await asyncio.sleep(FREEZE_S)
    _signal(pids, signal.SIGCONT)


async def connections_drop(house: House, _number: int) -> None:
    """Every connection of both engines is closed, also in the middle of answers."""
    for index, replica in enumerate(house.replicas()):
        port = int(replica["url"].rsplit(":", 1)[1])
        if not shut_down(house.engine_pids(index), port):
            raise Wrong(f"nobody was connected to {replica['url']}")


async def gateway_kill(house: House, number: int) -> None:
    """`kill -9` one of the two gateway workers."""
    before = house.service.pids("worker")
    _signal([before[number % len(before)]], signal.SIGKILL)
    await _until(lambda: len(set(house.service.pids("worker")) - set(before)) == 1, "a new worker")


async def controller_kill(house: House, _number: int) -> None:
    """`kill -9` the effective controller; the other one takes over when its lease has run out."""
    epoch = house.lease()[1]
    _signal([house.controller_pid()], signal.SIGKILL)
    await _until(lambda: house.lease()[1] > epoch, "another controller")


async def controller_pause(house: House, number: int) -> None:
    """SIGSTOP the effective controller past its lease, change a route meanwhile, and let it go on."""
    pid = await _stop_between_writes(house)
    holder, epoch = house.lease()
    try:
        await _until(lambda: house.lease()[1] > epoch, "another controller")
        await house.turn_scratch(number + 1)
        await asyncio.sleep(1)
        after = house.lease()
    finally:
        _signal([pid], signal.SIGCONT)
    await asyncio.sleep(LEASE_S)
    now = house.lease()
    if now != after:
        raise Wrong(f"{holder} woke up and the lease went from {after} to {now}")


async def _stop_between_writes(house: House) -> int:
    """Freeze the effective controller, but not while it writes: on SQLite all others wait for that."""
    for _ in range(20):
        pid = house.controller_pid()
        _signal([pid], signal.SIGSTOP)
        await asyncio.sleep(0.1)
        connection = sqlite3.connect(house.database, timeout=2, isolation_level=None)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            house.caught_in_writes += 1
            _signal([pid], signal.SIGCONT)
            await asyncio.sleep(0.2)
        else:
            return pid
        finally:
            connection.close()
    raise Wrong("the controller was writing whenever it was stopped")


async def store_stall(house: House, _number: int) -> None:
    """Another process holds the write lock of the store for a while."""

    def hold() -> None:
        connection = sqlite3.connect(house.database, timeout=10, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(STALL_S)
        connection.execute("ROLLBACK")
        connection.close()

    await asyncio.to_thread(hold)


async def store_stop(house: House, _number: int) -> None:
    """Nobody can read or write the store for a while: another process holds every lock of its log."""
    hold = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "end = time.monotonic() + float(sys.argv[2])\n"
        "for at in range(120, 128):\n"  # the locks of SQLite's WAL index (walformat, section 2.2)
        "    while True:\n"
        "        try:\n"
        "            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, at)\n"
        "            break\n"
        "        except OSError:\n"
        "            time.sleep(0.0005)\n"
        "time.sleep(max(0.0, end - time.monotonic()))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hold, f"{house.database}-shm", str(STALL_S)
    )
    try:
        await asyncio.wait_for(process.wait(), PATIENCE_S)
    finally:
        with suppress(ProcessLookupError):
            process.kill()


async def registry_full(house: House, number: int) -> None:
    """The disk of the blobs is full: an add is refused whole, and works when there is room again."""
    assert house.small_disk is not None  # noqa: S101 - the caller leaves this fault out otherwise
    filler = house.small_disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
    name = f"added-{number}"
    try:
        status, found = await house.add(name)
        if status in (200, 201):
            raise Wrong(f"an adapter was added to a full disk: {found}")
        if status == 0:
            raise Wrong(f"an add to a full disk has no answer: {found}")
        if (await house.call("GET", f"/admin/adapters/{name}/1"))[0] != 404:
            raise Wrong("an add that was refused left a version behind")
    finally:
        filler.unlink()
    status, found = await house.add(name)
    if status != 201:
        raise Wrong(f"with room again an add is refused: {status} {found}")


async def blob_remove(house: House, _number: int) -> None:
    """The files of an evicted adapter vanish; nobody can bring them back but who adds them again."""
    _, place = _blob(house, COLD)
    shutil.rmtree(place)
    await _repair(house)


async def blob_remove_asked(house: House, _number: int) -> None:
    """The same, and the adapter is asked for at once: an engine that reads it in that moment dies."""
    _, place = _blob(house, COLD)
    shutil.rmtree(place)
    deadline = time.monotonic() + PATIENCE_S
    status = 200
    try:
        while status != 503:
            body = {"model": COLD, "prompt": f"At {time.monotonic()}", "max_tokens": 1}
            status, found = await house.call("POST", "/v1/completions", body)
            if status not in (200, 502, 503) or time.monotonic() > deadline:
                raise Wrong(f"an adapter whose files are gone is answered with {status}: {found}")
    finally:
        await _add_again(house)


async def blob_change(house: House, _number: int) -> None:
    """The weights of an evicted adapter are overwritten in place."""
    _, place = _blob(house, COLD)
    weights = place / "adapter_model.safetensors"
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0xFF
    weights.write_bytes(bytes(data))
    await _repair(house)


async def _repair(house: House) -> None:
    """Look that the damaged version is refused with a reason, and no engine dies of it; then add it again."""
    await asyncio.sleep(NOTICE_S)
    before = [house.engine_pids(0), house.engine_pids(1)]
    try:
        for _ in range(3):
            status, found = await house.call("POST", "/v1/completions", {"model": COLD, "prompt": "x"})
            if status == 200:
                raise Wrong(f"a damaged adapter answers: {found}")
            if status != 503:
                raise Wrong(f"a damaged adapter is refused with {status}: {found}")
        if [house.engine_pids(0), house.engine_pids(1)] != before:
            raise Wrong("an engine died of a damaged adapter")
    finally:
        await _add_again(house)


async def _add_again(house: House) -> None:
    status, found = await house.add(COLD)
    if status != 200:
        raise Wrong(f"the adapter can't be added again: {status} {found}")


def _blob(house: House, name: str) -> tuple[str, Path]:
    digest = str(house.service.admin("GET", f"/admin/adapters/{name}/1")["digest"])
    return digest, house.service.state_dir / "adapters" / "blobs" / digest.removeprefix("sha256:")


async def _until(holds: Callable[[], bool], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline:
            raise Wrong(f"{what} did not come within {timeout_s:g} s")
        await asyncio.sleep(0.1)


def _signal(pids: list[int], signum: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


FAULTS: dict[str, Fault] = {
    "engine_kill": engine_kill,
    "engine_freeze": engine_freeze,
    "connections_drop": connections_drop,
    "gateway_kill": gateway_kill,
    "controller_kill": controller_kill,
    "controller_pause": controller_pause,
    "store_stall": store_stall,
    "store_stop": store_stop,
    "registry_full": registry_full,
    "blob_remove": blob_remove,
    "blob_remove_asked": blob_remove_asked,
    "blob_change": blob_change,
}
