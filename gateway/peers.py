"""The workers of one machine, and how `/metrics` speaks for all of them.

Each worker answers on a socket of its own in the state directory: whichever worker is scraped asks the
others and merges. Before a worker publishes its counters it writes them to a file beside the socket, so that
a worker that died is still counted with all that was ever published, and its successor goes on from there:
the sum never falls while the supervisor runs. What a killed worker counted after the last scrape is lost.
The supervisor empties the folder when it starts.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson

from gateway.exposition import Family, dump, load, merge, render
from gateway.gauge_rules import GAUGE_RULES
from gateway.telemetry import Telemetry

ASK_TIMEOUT_S = 2.0
METRICS, READY = b"metrics\n", b"ready\n"
_MAX_PATH_BYTES = 100
_log = logging.getLogger("turnout.peers")


class PeerSilent(Exception):
    """A worker does not answer."""


class Peers:
    """This worker among `count` workers; `folder` is None when it runs alone, without a supervisor."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        folder: Path | None,
        index: int,
        count: int,
        ready: Callable[[], object],
    ) -> None:
        """`ready` returns what `/readyz` says, as JSON."""
        self._telemetry = telemetry
        self._folder = folder
        self._index = index
        self._count = count
        self._ready = ready
        self._before: list[Family] = []
        self._keeping = threading.Lock()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Take over the counters of the worker that was here before, and listen.

        Raises:
            OSError: the folder can't be used.
        """
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._before = await asyncio.to_thread(read_counters, self._folder, self._index)
        self._server = await asyncio.start_unix_server(self._answer, sock=_listen(self._folder, self._index))

    async def close(self) -> None:
        """Leave the counters to the others, and stop listening."""
        if self._folder is None:
            return
        if self._server is not None:
            self._server.close()
        await asyncio.to_thread(self._own)

    async def exposition(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        others = [] if self._folder is None else [i for i in range(self._count) if i != self._index]
        said = await asyncio.gather(*(self._of(index) for index in others))
        return await asyncio.to_thread(self._merged, said)

    def _merged(self, said: list[bytes | None]) -> bytes:
        workers = [self._own()]
        for index, data in zip((i for i in range(self._count) if i != self._index), said, strict=False):
            if data is not None:
                with contextlib.suppress(ValueError):
                    workers.append(load(data))
                    continue
            if self._folder is not None:
                workers.append(read_counters(self._folder, index))
        return render(merge(workers, GAUGE_RULES))

    async def _of(self, index: int) -> bytes | None:
        try:
            return await self._ask(index)
        except PeerSilent as error:
            _log.info("%s", error)
            return None

    async def _ask(self, index: int) -> bytes:
        assert self._folder is not None  # noqa: S101 - who runs alone asks nobody
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                with _short(_path(self._folder, index)) as path:
                    reader, writer = await asyncio.open_unix_connection(path)
                try:
                    writer.write(METRICS)
                    return await reader.read(-1)
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise PeerSilent(f"worker {index} does not answer: {error!r}") from error

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                question = await reader.readline()
            if question == METRICS:
                writer.write(await asyncio.to_thread(lambda: dump(self._own())))
            elif question == READY:
                writer.write(orjson.dumps(self._ready()))
            await writer.drain()
        except (OSError, TimeoutError) as error:
            _log.info("a worker that asked is gone: %r", error)
        finally:
            writer.close()

    def _own(self) -> list[Family]:
        """Return this worker's metrics, its predecessors' counters included; they are on disk by then."""
        with self._keeping:  # what is published last is what is kept
            families = merge([self._telemetry.families(), self._before], GAUGE_RULES)
            if self._folder is not None:
                self._keep(self._folder, families)
        return families

    def _keep(self, folder: Path, families: list[Family]) -> None:
        path = _counters(folder, self._index)
        scratch = path.with_suffix(f".{os.getpid()}")
        try:
            scratch.write_bytes(dump(family for family in families if family.adds_up))
            scratch.replace(path)
        except OSError as error:
            self._telemetry.background_errors.labels("peers").inc()
            _log.warning("the counters could not be kept: %s", error)


def folder_in(state_dir: Path) -> Path:
    """Return where the workers of a state directory meet."""
    return state_dir.absolute() / "run"


def clear(folder: Path) -> None:
    """Forget the workers of an earlier run, counters included."""
    shutil.rmtree(folder, ignore_errors=True)


def ask_ready(folder: Path, index: int, *, generation: int = 0, timeout_s: float = ASK_TIMEOUT_S) -> bool:
    """Whether a worker says that it is ready, with a table of `generation` at least.

    For the supervisor, which has no event loop.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection, _short(_path(folder, index)) as path:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(READY)
            said = b"".join(iter(lambda: connection.recv(65536), b""))
        report = orjson.loads(said)
    except (OSError, orjson.JSONDecodeError):
        return False
    if not isinstance(report, dict) or report.get("ready") is not True:
        return False
    return int(report.get("table", {}).get("generation", 0)) >= generation


def read_counters(folder: Path, index: int) -> list[Family]:
    """Return what the worker `index` has published last; nothing when it never did."""
    try:
        return load(_counters(folder, index).read_bytes())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        _log.warning("the counters of worker %d can't be read: %s", index, error)
        return []


def _path(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}.sock"


def _counters(folder: Path, index: int) -> Path:
    return folder / f"worker-{index}.counters"


def _listen(folder: Path, index: int) -> socket.socket:
    where = _path(folder, index)
    where.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    try:
        with _short(where) as path:
            listener.bind(path)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Give a socket's path in a form that fits a socket's address, which holds some hundred bytes."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
